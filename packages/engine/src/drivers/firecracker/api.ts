import { request, type IncomingMessage } from 'node:http'
import { isPyroError, PyroError } from '@pyro/protocol'
import { z } from 'zod'
import { sleep } from '../../lib/wait.ts'
import { errnoOf } from '../../process/identity.ts'
import { describeInstance, type ApiRequest } from './requests.ts'

const ANSWER_LIMIT_BYTES = 64 * 1024
/** Of a refusal, in a message. */
const FAULT_CHARACTERS = 512
const CONNECT_STEP_MS = 2
const OK = 200
const NO_CONTENT = 204

const fault = z.object({ fault_message: z.string() })

/** A client of Firecracker's API on its unix socket: one request at a time, each on a connection of its own. */
export class FirecrackerApi {
  readonly #socketPath: string
  readonly #signal: AbortSignal

  private constructor(socketPath: string, signal: AbortSignal) {
    this.#socketPath = socketPath
    this.#signal = signal
  }

  /** Tries until somebody listens. The signal ends this and all that follows. */
  static async connect(socketPath: string, signal: AbortSignal): Promise<FirecrackerApi> {
    const api = new FirecrackerApi(socketPath, signal)
    for (;;) {
      try {
        await api.send(describeInstance)
        return api
      } catch (error) {
        const errno = errnoOf(isPyroError(error) ? error.cause : error)
        if (errno !== 'ENOENT' && errno !== 'ECONNREFUSED') throw error
        await sleep(CONNECT_STEP_MS, signal)
      }
    }
  }

  /** `workspace.start-failed` when it is refused, not answered in time or answered with what it cannot be. */
  async send<T>(call: ApiRequest<T>): Promise<T | null> {
    const name = `${call.method} ${call.path}`
    const late = AbortSignal.timeout(call.timeoutMs)
    try {
      const { status, text } = await this.#exchange(call, AbortSignal.any([this.#signal, late]))
      if (call.answer === null && status === NO_CONTENT && text === '') return null
      if (call.answer !== null && status === OK) return call.answer.parse(JSON.parse(text))
      const refusal = status < 400 ? null : fault.safeParse(JSON.parse(text)).data
      throw refusal === null || refusal === undefined
        ? failed(`answered ${name} with an unexpected ${status}`, name)
        : failed(`refused ${name}: ${printable(refusal.fault_message)}`, name)
    } catch (error) {
      this.#signal.throwIfAborted()
      if (isPyroError(error)) throw error
      if (late.aborted) throw failed(`did not answer ${name} within ${call.timeoutMs} ms`, name, error)
      if (error instanceof SyntaxError || error instanceof z.ZodError)
        throw failed(`answered ${name} with what is no answer to it`, name, error)
      throw failed(`broke off during ${name}`, name, error)
    }
  }

  #exchange(call: ApiRequest<unknown>, signal: AbortSignal): Promise<{ status: number; text: string }> {
    const body = call.body === null ? null : Buffer.from(JSON.stringify(call.body))
    return new Promise((resolve, reject) => {
      const sent = request({
        socketPath: this.#socketPath,
        method: call.method,
        path: call.path,
        agent: false,
        signal,
        maxHeaderSize: ANSWER_LIMIT_BYTES,
        headers: {
          accept: 'application/json',
          ...(body === null ? {} : { 'content-type': 'application/json', 'content-length': body.length }),
        },
      })
      sent.once('error', reject)
      sent.once('response', (response) => {
        textOf(response).then((text) => resolve({ status: response.statusCode ?? 0, text }), reject)
      })
      sent.end(body ?? undefined)
    })
  }
}

const textOf = async (response: IncomingMessage): Promise<string> => {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length
    // Leaving the loop destroys the connection.
    if (bytes > ANSWER_LIMIT_BYTES) throw new Error(`an answer of more than ${ANSWER_LIMIT_BYTES} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

const failed = (what: string, call: string, cause?: unknown): PyroError =>
  new PyroError('workspace.start-failed', `firecracker ${what}`, { data: { request: call }, cause })

const printable = (text: string): string => text.replaceAll(/[^\x20-\x7e]+/g, ' ').slice(0, FAULT_CHARACTERS)
