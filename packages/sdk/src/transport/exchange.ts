import type { Agent, ClientRequest, IncomingMessage } from 'node:http'
import {
  ANSWER_LIMIT_BYTES,
  batchesOf,
  isErrorCode,
  PyroError,
  REQUEST_ID_HEADER,
  STARTED_HEADER,
  VERSION_HEADER,
  type ErrorBody,
} from '@pyro/protocol/client'
import { ROUTES, VERSION } from '../generated/routes.ts'
import type { OperationId } from '@pyro/protocol'

// An import statement would evaluate every lazy export of the module (its WebSocket loads a whole HTTP client): 20 ms.
const http = process.getBuiltinModule('node:http')

/** The connection ended before the engine had answered: the engine died, restarted or is not there. */
export class EngineGone extends Error {
  override readonly name = 'EngineGone'
  /** True when nobody listened at all. */
  readonly refused: boolean

  constructor(message: string, options: { readonly cause?: unknown; readonly refused?: boolean } = {}) {
    super(message, { cause: options.cause })
    this.refused = options.refused ?? false
  }
}

/** Errnos that mean "no engine at the other end". */
const REFUSED = new Set(['ECONNREFUSED', 'ENOENT'])
const GONE = new Set([...REFUSED, 'ECONNRESET', 'EPIPE', 'ERR_STREAM_PREMATURE_CLOSE', 'ECONNABORTED'])

/** What a failed connection means: only errors of the connection itself belong here, never those of files or callers. */
const connectionError = (error: unknown): unknown => {
  const code = String((error as NodeJS.ErrnoException | null)?.code)
  return GONE.has(code) ? new EngineGone('the engine is gone', { cause: error, refused: REFUSED.has(code) }) : error
}

export interface RequestHead {
  readonly operation: OperationId
  readonly input: Readonly<Record<string, unknown>>
  readonly requestId: string
  readonly headers?: Readonly<Record<string, string>>
}

/** Without it Node works out the name for a TLS session that never is: 2 ms of the first call. */
const NO_TLS = { servername: '' }

/** One engine's socket, with connections kept for the next call. */
export class Wire {
  readonly socket: string
  readonly #agent: Agent
  readonly #onStarted: ((name: string) => void) | undefined
  #closed = false

  constructor(socket: string, options: { readonly onStarted?: ((name: string) => void) | undefined } = {}) {
    this.socket = socket
    this.#onStarted = options.onStarted
    this.#agent = new http.Agent({ keepAlive: true, maxFreeSockets: 16 })
  }

  get closed(): boolean {
    return this.#closed
  }

  /** A request whose body the caller writes. `rest` is what the path has not taken of the input. */
  open(head: RequestHead): { readonly request: ClientRequest; readonly rest: Record<string, unknown> } {
    this.refuseClosed()
    const route = ROUTES[head.operation]
    const { path, rest } = fillPath(route.path, head.input)
    const bodyless = route.method === 'GET' || route.method === 'DELETE'
    const request = http.request({
      socketPath: this.socket,
      agent: this.#agent,
      ...NO_TLS,
      method: route.method,
      path: bodyless ? path + query(rest) : path,
      headers: {
        host: 'pyro',
        [VERSION_HEADER]: VERSION,
        [REQUEST_ID_HEADER]: head.requestId,
        ...head.headers,
      },
    })
    request.setNoDelay(true)
    const onStarted = this.#onStarted
    if (onStarted !== undefined) {
      request.once('response', ({ headers: { [STARTED_HEADER]: name } }) => {
        if (typeof name === 'string') onStarted(name)
      })
    }
    return { request, rest }
  }

  /** The answer of a unary call, or the error the engine gave. */
  async unary(head: RequestHead, signal?: AbortSignal): Promise<unknown> {
    const { request, rest } = this.open(head)
    const answer = responseOf(request)
    const destroy = (): void => void request.destroy()
    signal?.addEventListener('abort', destroy, { once: true })
    if (signal?.aborted === true) destroy()
    try {
      if (request.method === 'GET' || request.method === 'DELETE') request.end()
      else {
        request.setHeader('content-type', 'application/json')
        request.end(JSON.stringify(rest))
      }
      const response = await answer
      return resultOf(response, await readBody(response))
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
  }
}

/** Settles with the head of the response; rejects when the connection fails first. */
export const responseOf = (request: ClientRequest): Promise<IncomingMessage> =>
  new Promise((resolve, reject) => {
    request.on('response', resolve)
    // Stays for the life of the request: once there is a response, its own stream reports what goes wrong.
    request.on('error', (error) => reject(connectionError(error)))
  })

/** An answer, a batch of chunks at a time. Leaving early keeps the connection. */
export async function* batchesOfAnswer(response: IncomingMessage): AsyncGenerator<readonly Buffer[], void, undefined> {
  try {
    yield* batchesOf(response)
  } catch (error) {
    throw connectionError(error)
  }
  if (!response.complete) throw new EngineGone('the engine ended in the middle of an answer')
}

export const readBody = async (response: IncomingMessage): Promise<Buffer> => {
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

export const resultOf = (response: IncomingMessage, body: Buffer): unknown => {
  const value = parseJson(body)
  const status = response.statusCode ?? 0
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
