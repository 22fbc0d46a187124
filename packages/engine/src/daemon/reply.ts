import type { ServerResponse } from 'node:http'
import {
  ANSWER_LIMIT_BYTES,
  ERRORS,
  FRAME,
  frameHeader,
  frameName,
  FRAMES_CONTENT_TYPE,
  NDJSON_CONTENT_TYPE,
  STARTED_HEADER,
  PyroError,
  type FrameType,
} from '@pyro/protocol'

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
export class HttpReply implements Reply<unknown> {
  readonly #response: ServerResponse
  readonly #stream: boolean
  readonly #lines: boolean

  constructor(response: ServerResponse, options: { readonly stream: boolean; readonly accept: string | undefined }) {
    this.#response = response
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
    if (!this.#response.headersSent) this.#response.setHeader(STARTED_HEADER, name)
  }

  /** @throws PyroError `limit.exceeded` for a result that no client takes; then nothing of it was sent */
  result(result: unknown): void {
    if (this.#response.destroyed) return
    const text = resultText(result)
    if (!this.#stream) this.#whole(200, text)
    else {
      void this.#json(FRAME.result, text)
      this.#response.end()
    }
  }

  /** Before the first frame an error has its HTTP status; after it, it is the last frame. */
  error(error: PyroError): void {
    if (this.#response.destroyed) return
    if (!this.#response.headersSent) {
      this.#whole(ERRORS[error.code].status, JSON.stringify({ error: error.toBody() }))
      return
    }
    void this.#json(FRAME.error, JSON.stringify(error.toBody()))
    this.#response.end()
  }

  #whole(status: number, text: string): void {
    this.#response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) })
    this.#response.end(text)
  }

  #json(type: FrameType, text: string): Promise<void> | null {
    if (this.#lines) return this.#line(`{"frame":"${frameName(type)}","value":${text}}`)
    return this.#frame(type, Buffer.from(text))
  }

  #bytes(type: FrameType, data: Uint8Array): Promise<void> | null {
    if (data.byteLength === 0) return null
    if (!this.#lines) return this.#frame(type, data)
    return this.#line(JSON.stringify({ frame: frameName(type), base64: Buffer.from(data).toString('base64') }))
  }

  #line(text: string): Promise<void> | null {
    this.#begin()
    return this.#sent(this.#response.write(`${text}\n`))
  }

  #frame(type: FrameType, payload: Uint8Array): Promise<void> | null {
    this.#begin()
    if (payload.byteLength < JOIN_BELOW_BYTES) {
      return this.#sent(this.#response.write(Buffer.concat([frameHeader(type, payload.byteLength), payload])))
    }
    // Never corked: a corked message calls itself full by its own count, which the socket may not share, and then drains never.
    this.#response.write(frameHeader(type, payload.byteLength))
    return this.#sent(this.#response.write(payload))
  }

  #begin(): void {
    if (this.#response.headersSent) return
    this.#response.writeHead(200, { 'content-type': this.#lines ? NDJSON_CONTENT_TYPE : FRAMES_CONTENT_TYPE })
  }

  #sent(free: boolean): Promise<void> | null {
    if (free || this.#response.destroyed) return null
    return new Promise((resolve) => {
      const settle = (): void => {
        this.#response.off('drain', settle).off('close', settle)
        resolve()
      }
      this.#response.on('drain', settle).on('close', settle)
    })
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
