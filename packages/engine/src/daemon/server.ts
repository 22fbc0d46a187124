import { createServer, type IncomingMessage, type Server } from 'node:http'
import type { Socket } from 'node:net'
import { chmodSync, mkdirSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import {
  CONNECTION_HEADER,
  isPyroError,
  KEEP_CONNECTION,
  PyroError,
  REQUEST_ID_HEADER,
  UPGRADE_PROTOCOL,
  VERSION_HEADER,
  type Operation,
  type OperationId,
} from '@pyro/protocol'
import { errorFields } from '../lib/log.ts'
import type { Engine } from './engine.ts'
import { FrameConnection, KEEP_ALIVE_MS, type FrameHead } from './frame-connection.ts'
import { EngineLeaving, type HandlerCall, type Handler } from './handler.ts'
import { HANDLERS } from './handlers.ts'
import { withNames } from './hint.ts'
import { hostFailure } from './host-failure.ts'
import { queryFields, validInput } from './input.ts'
import { HttpOutlet, type Outlet } from './outlet.ts'
import { ClientReply } from './reply.ts'
import { discardRest, openRequest, type OpenedRequest, type RequestBody } from './request-body.ts'
import { findRoute, routeTo, type Route } from './router.ts'

const REQUEST_ID_BYTES = 64
/** Operations that a client of any version may call: to see that it must restart the engine, and to do so. */
const ANY_VERSION: ReadonlySet<OperationId> = new Set(['engine.status', 'engine.shutdown'])
/** Operations that find their first call again by themselves: their answers are streams, not one document. */
const OWN_REPETITION: ReadonlySet<OperationId> = new Set(['workspace.exec', 'run'])

/** The HTTP side of the engine: one unix socket, routes from the contract. */
export class EngineServer {
  readonly #engine: Engine
  readonly #server: Server
  /** Connections that the HTTP server handed over, which it does not close. */
  readonly #bare = new Set<FrameConnection>()
  #left: Promise<void> | null = null

  private constructor(engine: Engine) {
    this.#engine = engine
    const options = { keepAliveTimeout: KEEP_ALIVE_MS, requestTimeout: 0, shouldUpgradeCallback: asksForFrames }
    this.#server = createServer(options, (request, response) => {
      void this.#serve(this.#overHttp(request, new HttpOutlet(response)))
    })
    this.#server.on('upgrade', (request, socket, head) => this.#serveBare(request, socket as Socket, head))
  }

  /** Readable and writable for root alone from the first moment: the folder decides until the mode is set. */
  static async listen(engine: Engine): Promise<EngineServer> {
    const server = new EngineServer(engine)
    mkdirSync(dirname(engine.socket), { recursive: true })
    await rm(engine.socket, { force: true })
    const mask = process.umask(0o177)
    try {
      await new Promise<void>((resolve, reject) => {
        server.#server.once('error', reject)
        server.#server.listen(engine.socket, resolve)
      })
    } finally {
      process.umask(mask)
    }
    chmodSync(engine.socket, 0o600)
    return server
  }

  /** From now on whoever comes, also on an open connection, is left to the next engine. Calls under way go on. */
  leave(): void {
    this.#left ??= new Promise<void>((resolve) => {
      this.#server.close(() => resolve())
    })
    this.#server.closeIdleConnections()
    for (const connection of this.#bare) connection.leave()
  }

  /** Connections that are open get `graceMs` to end. */
  async close(graceMs: number): Promise<void> {
    this.leave()
    const timer = setTimeout(() => {
      this.#server.closeAllConnections()
      for (const connection of this.#bare) connection.destroy()
    }, graceMs)
    await this.#left
    clearTimeout(timer)
  }

  #serveBare(request: IncomingMessage, socket: Socket, first: Buffer): void {
    if (first.length > 0) socket.unshift(first)
    const keeps = request.headers[CONNECTION_HEADER] === KEEP_CONNECTION
    const connection = new FrameConnection(socket, keeps, ({ head, outlet, open, close }) => {
      const of = head === null ? this.#headOfUpgrade(request, outlet) : headOfFrame(head)
      return this.#serve({ ...of, outlet, accept: undefined, framed: true, open, close })
    })
    this.#bare.add(connection)
    socket.on('close', () => this.#bare.delete(connection))
    void connection.run()
  }

  #headOfUpgrade(request: IncomingMessage, outlet: Outlet): ExchangeHead {
    const head = this.#headOfHttp(request, outlet)
    // Not every Node 24 asks `shouldUpgradeCallback`.
    return asksForFrames(request) ? head : { ...head, route: refuseUpgrade }
  }

  #overHttp(request: IncomingMessage, outlet: HttpOutlet): Exchange {
    let body: RequestBody | null = null
    return {
      ...this.#headOfHttp(request, outlet),
      outlet,
      accept: request.headers.accept,
      framed: false,
      open: async (limitBytes) => {
        const opened = await openRequest(request, limitBytes)
        body = opened.body
        return opened
      },
      close: () => {
        body?.abandon()
        discardRest(request)
      },
    }
  }

  #headOfHttp(request: IncomingMessage, outlet: Outlet): ExchangeHead {
    outlet.setHeader(VERSION_HEADER, this.#engine.version)
    const url = request.url ?? '/'
    // As it came: a URL class would take `..`, which is no name, for the way to another operation.
    const [path = '', query = ''] = splitOnce(url, '?')
    return { url, query, route: () => this.#route(request, path), requestId: request.headers[REQUEST_ID_HEADER] }
  }

  async #serve(exchange: Exchange): Promise<void> {
    const { outlet, framed } = exchange
    if (this.#left !== null) {
      outlet.destroy()
      return
    }
    let reply = new ClientReply(outlet, { stream: false, accept: undefined })
    let input: unknown = null
    try {
      const route = exchange.route()
      const { id, operation } = route
      if (framed && operation.kind !== 'stream') throw noStream(id)
      const opened = await exchange.open(this.#bodyLimit(id))
      reply = new ClientReply(outlet, { stream: operation.kind === 'stream', accept: exchange.accept })
      const query = hasQuery(operation) ? queryFields(new URLSearchParams(exchange.query)) : {}
      input = validInput(route, { ...query, ...opened.fields })
      const requestId = validRequestId(exchange.requestId)
      reply.result(await this.#call(route, { requestId, input, body: opened.body, reply, gone: outlet.gone }))
    } catch (error) {
      if (error instanceof EngineLeaving || error === outlet.gone.reason) outlet.destroy()
      else reply.error(withNames(this.#publicError(error, exchange.url), input))
    } finally {
      exchange.close()
    }
  }

  #call({ id, operation }: Route, parts: CallParts): Promise<unknown> {
    if (operation.mutates) this.#engine.home.refuseLost()
    const { input, body, reply, gone, requestId } = parts
    const once = operation.mutates && !OWN_REPETITION.has(id)
    return this.#engine.calls.run({ operation: id, requestId, once }, (signal) => {
      const call = {
        engine: this.#engine,
        input,
        upload: body,
        reply,
        gone,
        signal,
        onStarted: (name: string) => reply.started(name),
        requestId: operation.mutates ? requestId : null,
      }
      return (HANDLERS[id] as Handler<OperationId>)(call as HandlerCall<OperationId>)
    })
  }

  #bodyLimit(id: OperationId): number {
    const { requestBytes, fileWriteBytes } = this.#engine.services.config.limits
    // Escaped as JSON, text can take six bytes for one; base64 a third more.
    return id === 'workspace.file.write' ? requestBytes + 6 * fileWriteBytes : requestBytes
  }

  /** A client of another version may know routes that are not here: what it has to hear is the version. */
  #route(request: IncomingMessage, path: string): Route {
    const client = request.headers[VERSION_HEADER]
    const isOther = client !== undefined && client !== this.#engine.version
    try {
      const route = findRoute(request.method ?? '', path)
      if (!isOther || ANY_VERSION.has(route.id)) return route
    } catch (error) {
      if (!isOther) throw error
    }
    throw new PyroError(
      'engine.version-mismatch',
      `the engine is version ${this.#engine.version}, the client ${String(client)}; nothing was changed`,
      {
        hint: 'pyro daemon restart (running commands go on)',
        data: { engine: this.#engine.version, client: String(client) },
      },
    )
  }

  #publicError(error: unknown, url: string): PyroError {
    if (isPyroError(error)) return error
    const failure = hostFailure(error, this.#engine.services.config.home)
    if (failure !== null) return failure
    this.#engine.services.log.error({ url, ...errorFields(error) }, 'an operation failed unexpectedly')
    const message = error instanceof Error ? error.message : String(error)
    return new PyroError('internal', `a defect in Pyro: ${message}`, { hint: 'pyro daemon logs', cause: error })
  }
}

/** An offer of any other protocol is one that need not be taken (RFC 9110, 7.8): its request is answered as HTTP. */
const asksForFrames = ({ headers }: IncomingMessage): boolean =>
  (headers.upgrade ?? '').split(',').some((protocol) => protocol.trim().toLowerCase() === UPGRADE_PROTOCOL)

/** What a call is, before anything of its body is read. */
interface ExchangeHead {
  /** For the log. */
  readonly url: string
  readonly query: string
  /** @throws PyroError what is wrong with the head */
  readonly route: () => Route
  readonly requestId: unknown
}

/** One call, whatever carries it. */
interface Exchange extends ExchangeHead {
  readonly outlet: Outlet
  readonly accept: string | undefined
  /** On a bare connection, where all is frames. */
  readonly framed: boolean
  readonly open: (limitBytes: number) => Promise<OpenedRequest>
  /** The answer is complete. */
  readonly close: () => void
}

interface CallParts {
  readonly requestId: string | null
  readonly input: unknown
  readonly body: RequestBody
  readonly reply: ClientReply
  readonly gone: AbortSignal
}

const headOfFrame = ({ operation, requestId }: FrameHead): ExchangeHead => ({
  url: typeof operation === 'string' ? operation : '',
  query: '',
  route: () => routeTo(operation),
  requestId,
})

const refuseUpgrade = (): never => {
  throw new PyroError('input.invalid', `upgrade: must be ${UPGRADE_PROTOCOL}; nothing was changed`, {
    data: { field: 'upgrade' },
  })
}

const noStream = (id: OperationId): PyroError =>
  new PyroError('input.invalid', `${id} is answered with one document: it takes no upgrade; nothing was changed`, {
    data: { field: 'upgrade' },
  })

const splitOnce = (text: string, separator: string): string[] => {
  const at = text.indexOf(separator)
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + separator.length)]
}

const hasQuery = (operation: Operation): boolean =>
  'method' in operation.http && (operation.http.method === 'GET' || operation.http.method === 'DELETE')

const validRequestId = (id: unknown): string | null => {
  if (id === undefined) return null
  if (typeof id !== 'string' || id === '' || id.length > REQUEST_ID_BYTES) {
    throw new PyroError('input.invalid', `${REQUEST_ID_HEADER}: must be 1 to ${REQUEST_ID_BYTES} characters`, {
      data: { field: REQUEST_ID_HEADER },
    })
  }
  return id
}
