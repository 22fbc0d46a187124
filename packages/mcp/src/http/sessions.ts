/**
 * Sessions of clients that speak the protocol revisions of 2025: a cancellation comes as a request of its own, so what it cancels
 * must be found by the session. Tools keep nothing there: workspaces and commands are named by explicit ids.
 */
import { randomUUID } from 'node:crypto'
import { PyroError } from '@pyro/protocol'
import { ProtocolErrorCode, WebStandardStreamableHTTPServerTransport, type Server } from '@modelcontextprotocol/server'

export const SESSIONS_LIMIT = 64
const IDLE_LIMIT_MS = 60 * 60_000

interface Session {
  readonly transport: WebStandardStreamableHTTPServerTransport
  readonly server: Server
  usedAtMs: number
  /** Requests that are not answered to their end; the stream that a client listens on is one of them. */
  underWay: number
}

export class Sessions {
  /** Least recently used first. */
  readonly #byId = new Map<string, Session>()
  readonly #create: () => Server

  constructor(create: () => Server) {
    this.#create = create
  }

  /** `ended` fires when the connection of the request is done with its answer. */
  async handle(request: Request, ended: AbortSignal): Promise<Response> {
    const id = request.headers.get('mcp-session-id')
    if (id === null) return this.#open(request, ended)
    const session = this.#byId.get(id)
    if (session === undefined) return notFound()
    this.#use(id, session, ended)
    return session.transport.handleRequest(request)
  }

  async close(): Promise<void> {
    const open = [...this.#byId.values()]
    this.#byId.clear()
    await Promise.all(open.map(({ server }) => server.close()))
  }

  /** A first request without a session: the transport makes one of an `initialize` and refuses everything else. */
  async #open(request: Request, ended: AbortSignal): Promise<Response> {
    // No await up to where the session has its place: those that open at the same time count each other.
    const surplus = this.#takeSurplus()
    if (this.#byId.size >= SESSIONS_LIMIT) return tooMany()
    const id = randomUUID()
    const opened = { is: false }
    const server = this.#create()
    const transport = new WebStandardStreamableHTTPServerTransport({
      sessionIdGenerator: () => id,
      onsessioninitialized: () => void (opened.is = true),
      onsessionclosed: () => void this.#byId.delete(id),
    })
    this.#use(id, { transport, server, usedAtMs: 0, underWay: 0 }, ended)
    try {
      await Promise.all(surplus.map((session) => session.server.close()))
      await server.connect(transport)
      return await transport.handleRequest(request)
    } finally {
      if (!opened.is) {
        this.#byId.delete(id)
        await server.close()
      }
    }
  }

  #use(id: string, session: Session, ended: AbortSignal): void {
    this.#byId.delete(id)
    this.#byId.set(id, session)
    session.usedAtMs = Date.now()
    if (ended.aborted) return
    session.underWay += 1
    ended.addEventListener('abort', () => void (session.underWay -= 1), { once: true })
  }

  /** Takes out the sessions that were idle for too long, and as many more idle ones as a new session needs room. */
  #takeSurplus(): readonly Session[] {
    const taken: Session[] = []
    for (const [id, session] of this.#byId) {
      if (session.underWay > 0) continue
      const mayStay = this.#byId.size < SESSIONS_LIMIT && Date.now() - session.usedAtMs < IDLE_LIMIT_MS
      if (mayStay) continue
      this.#byId.delete(id)
      taken.push(session)
    }
    return taken
  }
}

/** What tells a client of the protocol to begin a new session. */
const notFound = (): Response =>
  Response.json({ jsonrpc: '2.0', error: { code: -32_001, message: 'no such session' }, id: null }, { status: 404 })

const tooMany = (): Response => {
  const full = new PyroError('limit.exceeded', `${SESSIONS_LIMIT} sessions are in use already; none was opened`, {
    hint: 'close a client, or try again later',
    data: { limit: 'sessions', max: SESSIONS_LIMIT },
  })
  const error = { code: ProtocolErrorCode.InternalError, message: `${full.code}: ${full.message}`, data: full.toBody() }
  return Response.json({ jsonrpc: '2.0', error, id: null }, { status: 429 })
}
