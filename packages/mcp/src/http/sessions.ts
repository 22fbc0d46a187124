/**
 * Sessions of clients that speak the protocol revisions of 2025: a cancellation comes as a request of its own, so what it cancels
 * must be found by the session. Tools keep nothing there: workspaces and commands are named by explicit ids.
 */
import { randomUUID } from 'node:crypto'
import { WebStandardStreamableHTTPServerTransport, type Server } from '@modelcontextprotocol/server'

const SESSIONS_LIMIT = 64
const IDLE_LIMIT_MS = 60 * 60_000

interface Session {
  readonly transport: WebStandardStreamableHTTPServerTransport
  readonly server: Server
  usedAtMs: number
}

export class Sessions {
  readonly #byId = new Map<string, Session>()
  readonly #create: () => Server

  constructor(create: () => Server) {
    this.#create = create
  }

  async handle(request: Request): Promise<Response> {
    const id = request.headers.get('mcp-session-id')
    if (id === null) return this.#open(request)
    const session = this.#byId.get(id)
    if (session === undefined) return notFound()
    session.usedAtMs = Date.now()
    return session.transport.handleRequest(request)
  }

  async close(): Promise<void> {
    const open = [...this.#byId.values()]
    this.#byId.clear()
    await Promise.all(open.map(({ server }) => server.close()))
  }

  /** A first request without a session: the transport makes one of an `initialize` and refuses everything else. */
  async #open(request: Request): Promise<Response> {
    await this.#closeIdle()
    const server = this.#create()
    const opened: { id: string | null } = { id: null }
    const transport = new WebStandardStreamableHTTPServerTransport({
      sessionIdGenerator: () => randomUUID(),
      onsessioninitialized: (id) => {
        opened.id = id
        this.#byId.set(id, { transport, server, usedAtMs: Date.now() })
      },
      onsessionclosed: (id) => void this.#byId.delete(id),
    })
    await server.connect(transport)
    const response = await transport.handleRequest(request)
    if (opened.id === null) await server.close()
    return response
  }

  async #closeIdle(): Promise<void> {
    const byAge = [...this.#byId].toSorted(([, a], [, b]) => a.usedAtMs - b.usedAtMs)
    const surplus = byAge.length - SESSIONS_LIMIT + 1
    for (const [index, [id, session]] of byAge.entries()) {
      if (index >= surplus && Date.now() - session.usedAtMs < IDLE_LIMIT_MS) return
      this.#byId.delete(id)
      await session.server.close()
    }
  }
}

/** What tells a client of the protocol to begin a new session. */
const notFound = (): Response =>
  Response.json({ jsonrpc: '2.0', error: { code: -32_001, message: 'no such session' }, id: null }, { status: 404 })
