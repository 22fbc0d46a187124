import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { Readable } from 'node:stream'
import { batchesOf, FRAME, FrameDecoder, FrameError, FRAMES_CONTENT_TYPE, PyroError, type Frame } from '@pyro/protocol'
import { parseJson } from './input.ts'

/** Bytes of an upload that wait for the operation before the client is held back. */
const UPLOAD_QUEUE_BYTES = 1024 * 1024
/** What is read and dropped of a request whose answer is complete, so that the client gets to read the answer. */
export const DISCARD_BYTES = 256 * 1024 * 1024
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

/** What a request says, and the streams that follow. */
export interface OpenedRequest {
  readonly fields: Record<string, unknown>
  readonly body: RequestBody
}

/** The streams of one request, whatever brings its frames. */
export class RequestBody implements Upload {
  readonly data = new FrameStream()
  readonly stdin = new FrameStream()
  #listener: ControlListener | null = null
  readonly #early: unknown[] = []
  #abandoned = false

  /** True once the answer is complete. */
  get abandoned(): boolean {
    return this.#abandoned
  }

  onControl(listener: ControlListener): void {
    this.#listener = listener
    for (const message of this.#early.splice(0)) listener(message)
  }

  /** A frame behind the input. A promise means: wait, the operation is slower. */
  accept(frame: Frame): Promise<void> | null {
    const { payload } = frame
    switch (frame.type) {
      case FRAME.data:
        return this.data.accept(payload)
      case FRAME.stdin:
        return this.stdin.accept(payload)
      case FRAME.control:
        this.#control(parseJson(textOf(frame)))
        return null
      case FRAME.head:
      case FRAME.input:
      case FRAME.stdout:
      case FRAME.stderr:
      case FRAME.event:
      case FRAME.result:
      case FRAME.error:
        throw new FrameError(`a frame of type ${frame.type} does not belong into a request`)
    }
  }

  /** Nothing follows: the request is over, or what came is no request. */
  end(failure: unknown = null): void {
    const why = failure instanceof FrameError ? failure.message : 'the client broke off'
    this.data.finish(new PyroError('archive.truncated', `the upload ended early: ${why}`, { cause: failure }))
    this.stdin.finish(null)
  }

  /** The answer is complete: nobody takes what still comes. */
  abandon(): void {
    this.#abandoned = true
    this.data.abandon()
    this.stdin.abandon()
  }

  #control(message: unknown): void {
    if (this.#listener !== null) this.#listener(message)
    else if (this.#early.push(message) > EARLY_MESSAGES) throw new FrameError('control frames that nobody waits for')
  }
}

/** Reads the input of an HTTP request, JSON alone or frames that begin with it; what follows is read as the operation takes it. */
export const openRequest = async (request: IncomingMessage, limitBytes: number): Promise<OpenedRequest> => {
  const body = new RequestBody()
  const type = request.headers['content-type'] ?? ''
  if (type.startsWith(FRAMES_CONTENT_TYPE)) return { fields: await openFrames(request, body, limitBytes), body }
  const text = await readText(request, limitBytes)
  body.end()
  return { fields: text === '' ? {} : parseJson(text), body }
}

const openFrames = async (request: IncomingMessage, body: RequestBody, limitBytes: number) => {
  const batches = batchesOf(request)
  const decoder = new FrameDecoder()
  try {
    const [input, ...rest] = await firstFrames(batches, decoder)
    const fields = fieldsOf(input, limitBytes)
    void pump(body, batches, decoder, rest)
    return fields
  } catch (error) {
    await batches.return()
    throw error
  }
}

const pump = async (body: RequestBody, batches: Batches, decoder: FrameDecoder, first: readonly Frame[]) => {
  let failure: unknown = null
  try {
    for (const frame of first) await body.accept(frame)
    for await (const batch of batches) {
      for (const chunk of batch) {
        for (const frame of decoder.push(chunk)) {
          const held = body.accept(frame)
          if (held !== null) await held
        }
      }
      if (body.abandoned) return
    }
    if (!decoder.atBoundary) failure = new FrameError('the request ended in the middle of a frame')
  } catch (error) {
    failure = error
  }
  body.end(failure)
}

/** What the first frame says. */
export const fieldsOf = (input: Frame | undefined, limitBytes: number): Record<string, unknown> => {
  if (input?.type !== FRAME.input) throw new PyroError('input.invalid', 'the first frame of the request is not input')
  if (input.payload.byteLength > limitBytes) throw tooLarge(limitBytes)
  return parseJson(textOf(input))
}

/** Reads on and drops what it reads, within bounds. */
export const discardRest = (source: IncomingMessage | Socket): void => {
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

/** A defect of what came is the client's mistake. */
export const invalidFrames = (error: unknown): unknown =>
  error instanceof FrameError ? new PyroError('input.invalid', error.message, { cause: error }) : error

export const endedBeforeInput = (): PyroError => new PyroError('input.invalid', 'the request ended before its input')

const firstFrames = async (batches: Batches, decoder: FrameDecoder): Promise<Frame[]> => {
  try {
    for (;;) {
      const { value, done } = await batches.next()
      if (done === true) throw endedBeforeInput()
      const frames = value.flatMap((chunk) => [...decoder.push(chunk)])
      if (frames.length > 0) return frames
    }
  } catch (error) {
    throw invalidFrames(error)
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

export const textOf = (frame: Frame): string => Buffer.from(frame.payload).toString('utf8')
