import {
  ANSWER_LIMIT_BYTES,
  ERRORS,
  FRAME,
  frameHeader,
  FRAMES_CONTENT_TYPE,
  ndjsonLine,
  NDJSON_CONTENT_TYPE,
  STARTED_HEADER,
  PyroError,
  type FrameType,
} from '@pyro/protocol'
import type { Outlet } from './outlet.ts'

const MIB = 1024 * 1024
/** A payload below this goes out in one piece with its header. */
const JOIN_BELOW_BYTES = 8 * 1024

/** What an operation sends before its result. A promise means: wait, the client is slower. */
export interface Reply<Event> {
  event(event: Event): Promise<void> | null
  stdout(data: Buffer): Promise<void> | null
  stderr(data: Buffer): Promise<void> | null
  data(data: Uint8Array): Promise<void> | null
}

/** The answer to one request: JSON for unary operations, frames (binary or as JSON lines) for streams. */
export class ClientReply implements Reply<unknown> {
  readonly #outlet: Outlet
  readonly #stream: boolean
  readonly #lines: boolean

  constructor(outlet: Outlet, options: { readonly stream: boolean; readonly accept: string | undefined }) {
    this.#outlet = outlet
    this.#stream = options.stream
    this.#lines = options.accept?.includes(NDJSON_CONTENT_TYPE) === true
  }

  event(event: unknown): Promise<void> | null {
    return this.#json(FRAME.event, JSON.stringify(event))
  }

  stdout(data: Buffer): Promise<void> | null {
    return this.#bytes(FRAME.stdout, data)
  }

  stderr(data: Buffer): Promise<void> | null {
    return this.#bytes(FRAME.stderr, data)
  }

  data(data: Uint8Array): Promise<void> | null {
    return this.#bytes(FRAME.data, data)
  }

  /** Before the first frame: the operation had to start its workspace. */
  started(name: string): void {
    if (!this.#outlet.begun) this.#outlet.setHeader(STARTED_HEADER, name)
  }

  /** @throws PyroError `limit.exceeded` for a result that no client takes; then nothing of it was sent */
  result(result: unknown): void {
    if (this.#outlet.destroyed) return
    const text = resultText(result)
    if (!this.#stream) this.#outlet.document(200, text)
    else {
      void this.#json(FRAME.result, text)
      this.#outlet.end()
    }
  }

  /** Before the first frame an error has its HTTP status; after it, it is the last frame. */
  error(error: PyroError): void {
    if (this.#outlet.destroyed) return
    if (!this.#outlet.begun) {
      this.#outlet.refuse(ERRORS[error.code].status, error.toBody())
      return
    }
    void this.#json(FRAME.error, JSON.stringify(error.toBody()))
    this.#outlet.end()
  }

  #json(type: FrameType, text: string): Promise<void> | null {
    return this.#frame(type, Buffer.from(text))
  }

  #bytes(type: FrameType, data: Uint8Array): Promise<void> | null {
    return data.byteLength === 0 ? null : this.#frame(type, data)
  }

  #frame(type: FrameType, payload: Uint8Array): Promise<void> | null {
    this.#begin()
    if (this.#lines) return this.#outlet.write(Buffer.from(ndjsonLine({ type, payload })))
    const header = frameHeader(type, payload.byteLength)
    if (payload.byteLength >= JOIN_BELOW_BYTES) return this.#outlet.write(header, payload)
    return this.#outlet.write(Buffer.concat([header, payload]))
  }

  #begin(): void {
    if (!this.#outlet.begun) this.#outlet.begin(this.#lines ? NDJSON_CONTENT_TYPE : FRAMES_CONTENT_TYPE)
  }
}

const resultText = (result: unknown): string => {
  try {
    const text = JSON.stringify(result)
    if (Buffer.byteLength(text) <= ANSWER_LIMIT_BYTES) return text
  } catch (error) {
    // A text beyond what the engine of JavaScript can hold.
    if (!(error instanceof RangeError)) throw error
  }
  throw new PyroError(
    'limit.exceeded',
    `the answer is larger than ${ANSWER_LIMIT_BYTES / MIB} MiB; nothing was changed`,
    {
      hint: 'ask for a part of it, e.g. with --path',
      data: { limit: 'answerBytes', max: ANSWER_LIMIT_BYTES },
    },
  )
}
