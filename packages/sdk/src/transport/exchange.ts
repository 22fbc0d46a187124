import type { Agent, ClientRequest, IncomingMessage } from 'node:http'
import {
  ANSWER_LIMIT_BYTES,
  batchesOf,
  CONNECTION_HEADER,
  isErrorCode,
  KEEP_CONNECTION,
  PyroError,
  REQUEST_ID_HEADER,
  STARTED_HEADER,
  UPGRADE_PROTOCOL,
  VERSION_HEADER,
  type ErrorBody,
} from '@pyro/protocol/client'
import { Conversation } from './conversation.ts'
import { connectionError, EngineGone } from './engine-gone.ts'
import { ROUTES, VERSION } from '../generated/routes.ts'
import type { OperationId } from '@pyro/protocol'

// An import statement would evaluate every lazy export of the module (its WebSocket loads a whole HTTP client): 20 ms.
const http = process.getBuiltinModule('node:http')
const net = process.getBuiltinModule('node:net')

export interface RequestHead {
  readonly operation: OperationId
  readonly input: Readonly<Record<string, unknown>>
  readonly requestId: string
}

/** Without it Node works out the name for a TLS session that never is: 2 ms of the first call. */
const NO_TLS = { servername: '' }

/** Kept for the next call, of each kind. */
const FREE_CONNECTIONS = 16

/** One engine's socket, with connections kept for the next call. */
export class Wire {
  readonly socket: string
  readonly #agent: Agent
  readonly #onStarted: ((name: string) => void) | undefined
  readonly #conversations = new Set<Conversation>()
  /** Those that nobody asks on. */
  #idle: Conversation[] = []
  #closed = false

  constructor(socket: string, options: { readonly onStarted?: ((name: string) => void) | undefined } = {}) {
    this.socket = socket
    this.#onStarted = options.onStarted
    this.#agent = new http.Agent({ keepAlive: true, maxFreeSockets: FREE_CONNECTIONS })
  }

  get closed(): boolean {
    return this.#closed
  }

  /**
   * Begins a call on a connection that speaks frames, one that is kept or a new one; the caller writes the `input` in the same turn,
   * and hands the connection back with `keep`, or destroys it. `fresh`: a new one, which nobody takes when the engine is gone.
   */
  converse(
    head: RequestHead,
    { fresh }: { readonly fresh: boolean },
  ): {
    readonly conversation: Conversation
    readonly input: Readonly<Record<string, unknown>>
  } {
    this.refuseClosed()
    const kept = fresh ? undefined : this.#idle.pop()
    if (kept !== undefined) {
      kept.ask({ operation: head.operation, [REQUEST_ID_HEADER]: head.requestId })
      return { conversation: kept, input: head.input }
    }
    const { method, path: template } = ROUTES[head.operation]
    const { path, rest } = fillPath(template, head.input)
    const upgrade = { connection: 'upgrade', upgrade: UPGRADE_PROTOCOL, [CONNECTION_HEADER]: KEEP_CONNECTION }
    const lines = Object.entries({ ...headersOf(head), ...upgrade }).map(([name, value]) => `${name}: ${value}\r\n`)
    const conversation = new Conversation(net.connect(this.socket))
    this.#conversations.add(conversation)
    conversation.socket.once('close', () => {
      this.#conversations.delete(conversation)
      this.#idle = this.#idle.filter((idle) => idle !== conversation)
    })
    conversation.askFirst(`${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n`)
    return { conversation, input: rest }
  }

  /** For the next call, unless nothing can follow on it. */
  keep(conversation: Conversation): void {
    if (this.#closed || !conversation.keeps || this.#idle.length >= FREE_CONNECTIONS) conversation.socket.destroy()
    else {
      conversation.rest()
      this.#idle.push(conversation)
    }
  }

  /** Tells whoever opened this wire that the engine had to start a workspace first. */
  noteStarted(name: string | undefined): void {
    if (name !== undefined) this.#onStarted?.(name)
  }

  /** The answer of a unary call, or the error the engine gave. */
  async unary(head: RequestHead, signal?: AbortSignal): Promise<unknown> {
    this.refuseClosed()
    const { method, path: template } = ROUTES[head.operation]
    const { path, rest } = fillPath(template, head.input)
    const bodyless = method === 'GET' || method === 'DELETE'
    const request = http.request({
      socketPath: this.socket,
      agent: this.#agent,
      ...NO_TLS,
      method,
      path: bodyless ? path + query(rest) : path,
      headers: headersOf(head),
    })
    request.setNoDelay(true)
    const answer = responseOf(request)
    const destroy = (): void => void request.destroy()
    signal?.addEventListener('abort', destroy, { once: true })
    if (signal?.aborted === true) destroy()
    try {
      if (bodyless) request.end()
      else {
        request.setHeader('content-type', 'application/json')
        request.end(JSON.stringify(rest))
      }
      const response = await answer
      this.noteStarted(response.headers[STARTED_HEADER] as string | undefined)
      return resultOf(response.statusCode ?? 0, await readBody(response))
    } finally {
      signal?.removeEventListener('abort', destroy)
    }
  }

  /** @throws PyroError `input.invalid` */
  refuseClosed(): void {
    if (!this.#closed) return
    throw new PyroError('input.invalid', 'this client is closed; nothing was sent', {
      hint: 'open another one: Pyro.connect()',
    })
  }

  close(): void {
    this.#closed = true
    this.#agent.destroy()
    for (const { socket } of this.#conversations) socket.destroy()
  }
}

const headersOf = ({ requestId }: RequestHead) => ({
  host: 'pyro',
  [VERSION_HEADER]: VERSION,
  [REQUEST_ID_HEADER]: requestId,
})

/** Settles with the head of the response; rejects when the connection fails first. */
const responseOf = (request: ClientRequest): Promise<IncomingMessage> =>
  new Promise((resolve, reject) => {
    request.on('response', resolve)
    // Stays for the life of the request: once there is a response, its own stream reports what goes wrong.
    request.on('error', (error) => reject(connectionError(error)))
  })

/** An answer, a batch of chunks at a time. Leaving early keeps the connection. */
async function* batchesOfAnswer(response: IncomingMessage): AsyncGenerator<readonly Buffer[], void, undefined> {
  try {
    yield* batchesOf(response)
  } catch (error) {
    throw connectionError(error)
  }
  if (!response.complete) throw new EngineGone('the engine ended in the middle of an answer')
}

const readBody = async (response: IncomingMessage): Promise<Buffer> => {
  const chunks: Buffer[] = []
  let size = 0
  for await (const batch of batchesOfAnswer(response)) {
    for (const chunk of batch) size += chunk.length
    if (size > ANSWER_LIMIT_BYTES) {
      response.destroy()
      throw new PyroError('limit.exceeded', `the answer of the engine is larger than ${ANSWER_LIMIT_BYTES} bytes`)
    }
    chunks.push(...batch)
  }
  return Buffer.concat(chunks)
}

export const resultOf = (status: number, body: Buffer): unknown => {
  const value = parseJson(body)
  if (status >= 200 && status < 300) return value
  throw errorOf(value, status)
}

const parseJson = (body: Buffer): unknown => {
  try {
    return JSON.parse(body.toString())
  } catch (error) {
    throw new PyroError('internal', 'the engine answered something that is not JSON', { cause: error })
  }
}

/** The error of an answer: `{ error: { code, message, hint, data } }`. */
export const errorOf = (value: unknown, status: number): PyroError => {
  const body = (value as { error?: Partial<ErrorBody> } | null)?.error
  if (body === undefined || !isErrorCode(String(body.code))) {
    return new PyroError('internal', `the engine answered HTTP status ${status} without a known error`, {
      data: { status, answer: value },
    })
  }
  return PyroError.fromBody({
    code: body.code as ErrorBody['code'],
    message: body.message ?? '',
    hint: body.hint ?? null,
    data: body.data ?? null,
  })
}

const fillPath = (
  template: string,
  input: Readonly<Record<string, unknown>>,
): { path: string; rest: Record<string, unknown> } => {
  const rest = { ...input }
  const path = template.replaceAll(/\{(\w+)\}/g, (_, field: string) => {
    const value = rest[field]
    delete rest[field]
    if (typeof value !== 'string' || value === '') {
      throw new PyroError('input.invalid', `${field} is missing`, { data: { field } })
    }
    if (value === '.' || value === '..') throw noName(field, value)
    return encodeURIComponent(value)
  })
  return { path, rest }
}

/** Whoever normalises a URL, encoded or not, takes these for steps to another operation: they are never sent. */
const noName = (field: string, value: string): PyroError =>
  field === 'workspace'
    ? new PyroError('workspace.not-found', `there is no workspace "${value}"`, { hint: 'pyro workspace list' })
    : new PyroError('input.invalid', `${field}: "${value}" is no name; nothing was changed`, { data: { field } })

/** Fields of a GET or DELETE travel as JSON, so that strings, numbers and objects keep their type. */
const query = (rest: Readonly<Record<string, unknown>>): string => {
  const fields = Object.entries(rest).filter(([, value]) => value !== undefined)
  if (fields.length === 0) return ''
  return `?${fields.map(([field, value]) => `${field}=${encodeURIComponent(JSON.stringify(value))}`).join('&')}`
}
