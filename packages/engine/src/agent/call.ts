import type { ClientHttp2Stream } from 'node:http2'
import { batchesOf, FRAME, FrameDecoder, FrameError, PyroError, type Frame } from '@pyro/protocol'
import { agentError, agentErrorBody } from '@pyro/protocol/guest'
import type { z } from 'zod'
import { toPyroError, type Subject } from './agent-errors.ts'
import type { LinkSession } from './link-session.ts'

const ERROR_BODY_BYTES = 64 * 1024
/** Events, results and errors of a stream of frames. */
const JSON_FRAME_BYTES = 64 * 1024
/** What the agent may take to undo a call that was broken off. */
const UNDO_MS = 15_000

export interface CallLimits {
  readonly signal?: AbortSignal | undefined
  /** Until the answer; `touch` starts it again, `relax` ends it. Null: none. */
  readonly timeoutMs: number | null
  readonly subject: Subject
  /** What the caller's abort does to the call. */
  readonly onAbort: 'end' | 'break-off'
}

/**
 * One request on a session. It fails with the first of: the caller's abort, its deadline, the end of the link, the agent
 * dropping the stream. What breaks the protocol ends the whole link.
 */
export class Call {
  readonly path: string
  readonly session: LinkSession
  readonly stream: ClientHttp2Stream
  readonly #limits: CallLimits
  readonly #abort = (): void => {
    const { signal, onAbort } = this.#limits
    if (onAbort === 'end') this.end(signal?.reason)
    else this.breakOff(signal?.reason)
  }
  #timer: NodeJS.Timeout | null = null
  #reason: { readonly error: unknown } | null = null
  readonly #status = Promise.withResolvers<number>()
  #isAnswered = false

  constructor(session: LinkSession, path: string, limits: CallLimits) {
    this.path = path
    this.session = session
    this.#limits = limits
    this.stream = session.request(path)
    this.stream.once('response', (headers) => {
      this.#isAnswered = true
      this.#status.resolve(headers[':status'] ?? 0)
    })
    this.stream.on('error', (error) => this.#fail(error))
    this.stream.once('close', () => {
      this.relax()
      limits.signal?.removeEventListener('abort', this.#abort)
      this.#fail(null)
    })
    // Only some calls wait for it; nobody waiting is no fault.
    this.#status.promise.then(null, noOneWaits)
    limits.signal?.addEventListener('abort', this.#abort)
    if (limits.signal?.aborted === true) this.#abort()
    this.touch()
  }

  #fail(error: unknown): void {
    if (!this.#isAnswered) this.#status.reject(this.explain(error))
  }

  /** Starts the deadline again. */
  touch(): void {
    if (this.#reason !== null) return
    this.relax()
    const { timeoutMs } = this.#limits
    if (timeoutMs === null || this.stream.destroyed) return
    this.#timer = setTimeout(() => {
      this.end(
        new PyroError(
          'sandbox.unreachable',
          `${this.session.name}: no answer to ${this.path} within ${timeoutMs / 1000} s`,
        ),
      )
    }, timeoutMs)
  }

  /** No deadline from here on: the call may be silent for as long as it likes. */
  relax(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
  }

  /** From here on the caller's abort comes too late: the call goes on to its answer. */
  commit(): void {
    this.#limits.signal?.removeEventListener('abort', this.#abort)
  }

  /** Gives the call up for this reason. */
  end(error: unknown): void {
    this.#reason ??= { error }
    this.stream.close(CANCEL)
    this.stream.destroy()
  }

  /** Gives the call up by sending no more of it, and lets the agent undo what it did before it answers. */
  breakOff(error: unknown): void {
    if (this.#reason !== null || this.stream.destroyed) return
    this.relax()
    this.#reason = { error }
    this.stream.end()
    this.#timer = setTimeout(() => this.end(error), UNDO_MS)
  }

  /** Why this call failed, whatever its stream says. */
  explain(error: unknown): unknown {
    if (this.#reason !== null) return this.#reason.error
    return (
      this.session.reason ??
      new PyroError('sandbox.unreachable', `${this.session.name}: the agent dropped ${this.path}`, { cause: error })
    )
  }

  sendJson(value: unknown): void {
    this.stream.end(JSON.stringify(value))
  }

  /** Waits for the headers of the answer. An answer that is an error rejects as PyroError. */
  async answered(): Promise<void> {
    const status = await this.#status.promise
    if (status === 200) return
    const body = await this.readJson(agentErrorBody, ERROR_BODY_BYTES)
    throw toPyroError(body.error, this.#limits.subject)
  }

  /** The whole body as JSON of that shape. */
  async readJson<T>(schema: z.ZodType<T>, limitBytes: number): Promise<T> {
    const chunks: Buffer[] = []
    let size = 0
    for await (const batch of this.batches()) {
      for (const chunk of batch) size += chunk.length
      if (size > limitBytes) throw this.session.fail(`an answer is larger than ${limitBytes} bytes`)
      chunks.push(...batch)
    }
    return this.parseJson(Buffer.concat(chunks), schema)
  }

  parseJson<T>(bytes: Uint8Array, schema: z.ZodType<T>): T {
    let value: unknown
    try {
      value = JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8'))
    } catch (error) {
      throw this.session.fail(`the answer to ${this.path} is not JSON`, error)
    }
    const parsed = schema.safeParse(value)
    if (!parsed.success) throw this.session.fail(`the answer to ${this.path} does not fit its schema`, parsed.error)
    return parsed.data
  }

  /** The body as frames. An `error` frame rejects as PyroError. */
  async *frames(): AsyncGenerator<Frame, void, undefined> {
    const decoder = new FrameDecoder({ jsonLimitBytes: JSON_FRAME_BYTES })
    for await (const batch of this.batches()) {
      try {
        for (const chunk of batch) {
          for (const frame of decoder.push(chunk)) {
            if (frame.type === FRAME.error) {
              const error = this.parseJson(frame.payload, agentError)
              throw this.#reason === null ? toPyroError(error, this.#limits.subject) : this.#reason.error
            }
            yield frame
          }
        }
      } catch (error) {
        if (error instanceof FrameError) throw this.session.fail(error.message, error)
        throw error
      }
    }
    if (!decoder.atBoundary) throw this.session.fail(`the answer to ${this.path} ends within a frame`)
  }

  async *batches(): AsyncGenerator<readonly Buffer[], void, undefined> {
    try {
      for await (const batch of batchesOf(this.stream)) {
        for (const chunk of batch) this.session.account(chunk.length)
        yield batch
      }
    } catch (error) {
      throw this.explain(error)
    } finally {
      this.stream.destroy()
    }
    if (this.#reason !== null || this.session.reason !== null) throw this.explain(null)
  }

  /** A frame of a kind that this call does not have. */
  unexpected(frame: Frame): PyroError {
    return this.session.fail(`the answer to ${this.path} has an unexpected frame of type ${frame.type}`)
  }
}

const CANCEL = 0x08
const noOneWaits = (): void => undefined
