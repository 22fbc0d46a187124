import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { Readable } from 'node:stream'
import { batchesOf, FRAME, FrameDecoder, FrameError, FRAMES_CONTENT_TYPE, PyroError, type Frame } from '@pyro/protocol'
import { parseJson } from './input.ts'

/** Bytes of an upload that wait for the operation before the client is held back. */
const UPLOAD_QUEUE_BYTES = 1024 * 1024
/** What is read and dropped of a request whose answer is complete, so that the client gets to read the answer. */
const DISCARD_BYTES = 256 * 1024 * 1024
const DISCARD_MS = 10_000
/** Signals sent before the operation listens for them. */
const EARLY_MESSAGES = 64

/** `{ "type": "signal", "signal": "INT" }` */
export type ControlListener = (message: unknown) => void

/** The streams beside the input of a request. */
export interface Upload {
  /** Archive or file; destroyed with `archive.truncated` when the client breaks off. */
  readonly data: Readable
  readonly stdin: Readable
  onControl(listener: ControlListener): void
}

/** Where the body of a request comes from: an HTTP message, or the connection itself. */
export type BodySource = IncomingMessage | Socket

/** The body of one request: JSON alone, or frames that begin with JSON. */
export class RequestBody implements Upload {
  readonly fields: Record<string, unknown>
  readonly data: FrameStream
  readonly stdin: FrameStream
  readonly #source: BodySource
  #listener: ControlListener | null = null
  readonly #early: unknown[] = []
  #done = false

  private constructor(source: BodySource, fields: Record<string, unknown>) {
    this.#source = source
    this.fields = fields
    this.data = new FrameStream()
    this.stdin = new FrameStream()
  }

  /** Reads the input; what follows it is read as the operation takes it. */
  static async open(request: IncomingMessage, limitBytes: number): Promise<RequestBody> {
    const type = request.headers['content-type'] ?? ''
    if (type.startsWith(FRAMES_CONTENT_TYPE)) return RequestBody.framed(request, limitBytes)
    const text = await readText(request, limitBytes)
    const body = new RequestBody(request, text === '' ? {} : parseJson(text))
    body.#endStreams()
    return body
  }

  /** Like `open`, for a source that can only be frames. */
  static async framed(source: BodySource, limitBytes: number): Promise<RequestBody> {
    const batches = batchesOf(source)
    const decoder = new FrameDecoder()
    try {
      const [input, ...rest] = await firstFrames(batches, decoder)
      if (input?.type !== FRAME.input)
        throw new PyroError('input.invalid', 'the first frame of the request is not input')
      if (input.payload.byteLength > limitBytes) throw tooLarge(limitBytes)
      const body = new RequestBody(source, parseJson(textOf(input)))
      void body.#pump(batches, decoder, rest)
      return body
    } catch (error) {
      await batches.return()
      throw error
    }
  }

  onControl(listener: ControlListener): void {
    this.#listener = listener
    for (const message of this.#early.splice(0)) listener(message)
  }

  /** The answer is complete: what the client still sends is dropped, within bounds. */
  discard(): void {
    this.#done = true
    this.data.abandon()
    this.stdin.abandon()
    discardRest(this.#source)
  }

  async #pump(batches: Batches, decoder: FrameDecoder, first: readonly Frame[]): Promise<void> {
    let failure: unknown = null
    try {
      for (const frame of first) await this.#accept(frame)
      for await (const batch of batches) {
        for (const chunk of batch) {
          for (const frame of decoder.push(chunk)) {
            const held = this.#accept(frame)
            if (held !== null) await held
          }
        }
        if (this.#done) return
      }
      if (!decoder.atBoundary) failure = new FrameError('the request ended in the middle of a frame')
    } catch (error) {
      failure = error
    }
    this.#endStreams(failure)
  }

  #accept(frame: Frame): Promise<void> | null {
    const { payload } = frame
    switch (frame.type) {
      case FRAME.data:
        return this.data.accept(payload)
      case FRAME.stdin:
        return this.stdin.accept(payload)
      case FRAME.control:
        this.#control(parseJson(textOf(frame)))
        return null
      case FRAME.input:
      case FRAME.stdout:
      case FRAME.stderr:
      case FRAME.event:
      case FRAME.result:
      case FRAME.error:
        throw new FrameError(`a frame of type ${frame.type} does not belong into a request`)
    }
  }

  #control(message: unknown): void {
    if (this.#listener !== null) this.#listener(message)
    else if (this.#early.push(message) > EARLY_MESSAGES) throw new FrameError('control frames that nobody waits for')
  }

  #endStreams(failure: unknown = null): void {
    const why = failure instanceof FrameError ? failure.message : 'the client broke off'
    this.data.finish(new PyroError('archive.truncated', `the upload ended early: ${why}`, { cause: failure }))
    this.stdin.finish(null)
  }
}

/** Reads on and drops what it reads, within bounds. */
export const discardRest = (source: BodySource): void => {
  if (source.readableEnded || source.destroyed) return
  let left = DISCARD_BYTES
  const timer = setTimeout(() => source.destroy(), DISCARD_MS)
  source.once('close', () => clearTimeout(timer))
  source.once('end', () => clearTimeout(timer))
  source.on('data', (chunk: Buffer) => {
    left -= chunk.length
    if (left < 0) source.destroy()
  })
  source.resume()
}

/** One stream of frames as a Readable. An empty frame ends it. */
class FrameStream extends Readable {
  #room: (() => void) | null = null
  #ended = false

  constructor() {
    super({ highWaterMark: UPLOAD_QUEUE_BYTES })
    // Without a reader an early end is nobody's failure.
    this.on('error', () => undefined)
  }

  override _read(): void {
    this.#room?.()
    this.#room = null
  }

  override _destroy(error: Error | null, callback: (error: Error | null) => void): void {
    this._read()
    this.#ended = true
    callback(error)
  }

  /** A promise means: wait until there is room. */
  accept(payload: Uint8Array): Promise<void> | null {
    if (this.#ended) return null
    if (payload.byteLength === 0) {
      this.#ended = true
      this.push(null)
      return null
    }
    if (this.push(Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength))) return null
    return new Promise((resolve) => (this.#room = resolve))
  }

  /** The request is over: with an error when the stream should have had its own end before. */
  finish(error: Error | null): void {
    if (this.#ended) return
    this.#ended = true
    if (error === null) this.push(null)
    else this.destroy(error)
  }

  abandon(): void {
    this.destroy()
  }
}

type Batches = AsyncGenerator<readonly Buffer[], void, undefined>

const firstFrames = async (batches: Batches, decoder: FrameDecoder): Promise<Frame[]> => {
  try {
    for (;;) {
      const { value, done } = await batches.next()
      if (done === true) throw new PyroError('input.invalid', 'the request ended before its input')
      const frames = value.flatMap((chunk) => [...decoder.push(chunk)])
      if (frames.length > 0) return frames
    }
  } catch (error) {
    if (error instanceof FrameError) throw new PyroError('input.invalid', error.message, { cause: error })
    throw error
  }
}

const readText = async (request: IncomingMessage, limitBytes: number): Promise<string> => {
  const chunks: Buffer[] = []
  let size = 0
  for await (const batch of batchesOf(request)) {
    for (const chunk of batch) size += chunk.length
    if (size > limitBytes) throw tooLarge(limitBytes)
    chunks.push(...batch)
  }
  return Buffer.concat(chunks).toString('utf8')
}

const tooLarge = (limitBytes: number): PyroError =>
  new PyroError('limit.exceeded', `the request is larger than ${limitBytes} bytes; nothing was changed`, {
    data: { limit: 'requestBytes', max: limitBytes },
  })

const textOf = (frame: Frame): string => Buffer.from(frame.payload).toString('utf8')
