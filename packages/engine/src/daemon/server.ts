import { createServer, type IncomingMessage, type Server } from 'node:http'
import type { Socket } from 'node:net'
import { chmodSync, mkdirSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import {
  isPyroError,
  PyroError,
  REQUEST_ID_HEADER,
  UPGRADE_PROTOCOL,
  VERSION_HEADER,
  type Operation,
  type OperationId,
} from '@pyro/protocol'
import { errorFields } from '../lib/log.ts'
import type { Engine } from './engine.ts'
import { EngineLeaving, type HandlerCall, type Handler } from './handler.ts'
import { HANDLERS } from './handlers.ts'
import { withNames } from './hint.ts'
import { hostFailure } from './host-failure.ts'
import { queryFields, validInput } from './input.ts'
import { BareOutlet, HttpOutlet, type Outlet } from './outlet.ts'
import { ClientReply } from './reply.ts'
import { discardRest, RequestBody } from './request-body.ts'
import { findRoute, type Route } from './router.ts'

const REQUEST_ID_BYTES = 64
/** Clients keep their connections; an idle one costs a file descriptor. */
const KEEP_ALIVE_MS = 60_000

/** Operations that a client of any version may call: to see that it must restart the engine, and to do so. */
const ANY_VERSION: ReadonlySet<OperationId> = new Set(['engine.status', 'engine.shutdown'])
/** Operations that find their first call again by themselves: their answers are streams, not one document. */
const OWN_REPETITION: ReadonlySet<OperationId> = new Set(['workspace.exec', 'run'])

/** The HTTP side of the engine: one unix socket, routes from the contract. */
export class EngineServer {
  readonly #engine: Engine
  readonly #server: Server
  /** Connections that the HTTP server handed over, which it does not close. */
  readonly #bare = new Set<Socket>()
  #left: Promise<void> | null = null

  private constructor(engine: Engine) {
    this.#engine = engine
    const options = { keepAliveTimeout: KEEP_ALIVE_MS, requestTimeout: 0, shouldUpgradeCallback: asksForFrames }
    this.#server = createServer(options, (request, response) => {
      void this.#serve({ request, outlet: new HttpOutlet(response) })
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
  }

  /** Connections that are open get `graceMs` to end. */
  async close(graceMs: number): Promise<void> {
    this.leave()
    const timer = setTimeout(() => {
      this.#server.closeAllConnections()
      for (const socket of this.#bare) socket.destroy()
    }, graceMs)
    await this.#left
    clearTimeout(timer)
  }

  #serveBare(request: IncomingMessage, socket: Socket, head: Buffer): void {
    this.#bare.add(socket)
    socket.on('close', () => this.#bare.delete(socket))
    const outlet = new BareOutlet(socket)
    // Not every Node 24 asks `shouldUpgradeCallback`.
    if (asksForFrames(request)) {
      if (head.length > 0) socket.unshift(head)
      void this.#serve({ request, outlet, bare: socket })
      return
    }
    const error = new PyroError('input.invalid', `upgrade: must be ${UPGRADE_PROTOCOL}; nothing was changed`, {
      data: { field: 'upgrade' },
    })
    new ClientReply(outlet, { stream: false, accept: undefined }).error(error)
    discardRest(socket)
  }

  /** `bare`: the connection itself, which speaks frames behind the head of the request. */
  async #serve({ request, outlet, bare }: Connection): Promise<void> {
    if (this.#left !== null) {
      outlet.destroy()
      return
    }
    outlet.setHeader(VERSION_HEADER, this.#engine.version)
    let reply = new ClientReply(outlet, { stream: false, accept: undefined })
    let body: RequestBody | null = null
    let input: unknown = null
    try {
      // As it came: a URL class would take `..`, which is no name, for the way to another operation.
      const [path = '', query = ''] = splitOnce(request.url ?? '/', '?')
      const route = this.#route(request, path)
      const { id, operation } = route
      if (bare !== undefined && operation.kind !== 'stream') throw noStream(id)
      const limit = this.#bodyLimit(id)
      body = bare === undefined ? await RequestBody.open(request, limit) : await RequestBody.framed(bare, limit)
      const accept = bare === undefined ? request.headers.accept : undefined
      reply = new ClientReply(outlet, { stream: operation.kind === 'stream', accept })
      const fields = hasQuery(operation) ? { ...queryFields(new URLSearchParams(query)), ...body.fields } : body.fields
      input = validInput(route, fields)
      reply.result(await this.#call(id, operation, { request, input, body, reply, gone: outlet.gone }))
    } catch (error) {
      if (error instanceof EngineLeaving || error === outlet.gone.reason) outlet.destroy()
      else reply.error(withNames(this.#publicError(error, request), input))
    } finally {
      if (body !== null) body.discard()
      else discardRest(bare ?? request)
    }
  }

  #call(
    id: OperationId,
    operation: Operation,
    parts: {
      readonly request: IncomingMessage
      readonly input: unknown
      readonly body: RequestBody
      readonly reply: ClientReply
      readonly gone: AbortSignal
    },
  ): Promise<unknown> {
    if (operation.mutates) this.#engine.home.refuseLost()
    const requestId = requestIdOf(parts.request)
    const once = operation.mutates && !OWN_REPETITION.has(id)
    return this.#engine.calls.run({ operation: id, requestId, once }, (signal) => {
      const call = {
        engine: this.#engine,
        input: parts.input,
        upload: parts.body,
        reply: parts.reply,
        gone: parts.gone,
        signal,
        onStarted: (name: string) => parts.reply.started(name),
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

  #publicError(error: unknown, request: IncomingMessage): PyroError {
    if (isPyroError(error)) return error
    const failure = hostFailure(error, this.#engine.services.config.home)
    if (failure !== null) return failure
    this.#engine.services.log.error({ url: request.url, ...errorFields(error) }, 'an operation failed unexpectedly')
    const message = error instanceof Error ? error.message : String(error)
    return new PyroError('internal', `a defect in Pyro: ${message}`, { hint: 'pyro daemon logs', cause: error })
  }
}

/** An offer of any other protocol is one that need not be taken (RFC 9110, 7.8): its request is answered as HTTP. */
const asksForFrames = ({ headers }: IncomingMessage): boolean =>
  (headers.upgrade ?? '').split(',').some((protocol) => protocol.trim().toLowerCase() === UPGRADE_PROTOCOL)

interface Connection {
  readonly request: IncomingMessage
  readonly outlet: Outlet
  readonly bare?: Socket
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

const requestIdOf = (request: IncomingMessage): string | null => {
  const id = request.headers[REQUEST_ID_HEADER]
  if (id === undefined) return null
  if (typeof id !== 'string' || id === '' || id.length > REQUEST_ID_BYTES) {
    throw new PyroError('input.invalid', `${REQUEST_ID_HEADER}: must be 1 to ${REQUEST_ID_BYTES} characters`, {
      data: { field: REQUEST_ID_HEADER },
    })
  }
  return id
}
