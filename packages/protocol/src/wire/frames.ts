/**
 * The frame format of every stream between a client and the engine, and of the command log on disk:
 *
 *     u8 type · u32 big-endian payload length · payload
 *
 * Request: `input` first, then `data` (archive or file) and `stdin` frames; an empty one ends that stream.
 * Response: `event`, `stdout`, `stderr`, `data` frames, then exactly one `result` or `error` as the last frame. A response
 * that ends without one was cut off.
 */
export const FRAME = {
  input: 0x00,
  stdout: 0x01,
  stderr: 0x02,
  stdin: 0x03,
  data: 0x04,
  event: 0x10,
  result: 0x11,
  error: 0x12,
  /** Client to engine while the call runs: `{ "type": "signal", "signal": "INT" }`. */
  control: 0x13,
  /**
   * On a connection that is kept, what stands in the head of a request or an answer elsewhere. Client to engine, before the `input` of
   * each call but the first: `{ "operation": ID, "pyro-request": ID }`. Engine to client, before all else: headers of its answer, where
   * there are any.
   */
  head: 0x14,
} as const

export type FrameName = keyof typeof FRAME
export type FrameType = (typeof FRAME)[FrameName]

export const FRAME_HEADER_BYTES = 5
/** A larger frame is a protocol error; senders split. */
export const FRAME_PAYLOAD_LIMIT_BYTES = 4 * 1024 * 1024

/** The one exception: a client takes a `result` up to this size, in a frame or as a JSON body. A larger one is `limit.exceeded`. */
export const ANSWER_LIMIT_BYTES = 256 * 1024 * 1024

export const FRAMES_CONTENT_TYPE = 'application/vnd.pyro.frames'
/**
 * A client that asks to upgrade to it speaks frames on the bare connection, both ways: its own begin with `input` right behind the
 * head of the request. It closes the connection to leave.
 */
export const UPGRADE_PROTOCOL = 'pyro-frames'
/**
 * With the value `keep`, beside an upgrade and in the answer to it: the engine does not end the connection behind its answer, which takes
 * another call then, beginning with `head`. What the client sends between two calls is dropped.
 */
export const CONNECTION_HEADER = 'pyro-connection'
export const KEEP_CONNECTION = 'keep'
export const NDJSON_CONTENT_TYPE = 'application/x-ndjson'

/** Request id of a mutating call: a repeated call with the same id is answered with the first one's result. */
export const REQUEST_ID_HEADER = 'pyro-request'
/** Sent by both sides; a client of another version gets `engine.version-mismatch`. */
export const VERSION_HEADER = 'pyro-version'
/** On the answer to a call that had to start its stopped workspace first: the name of the workspace. */
export const STARTED_HEADER = 'pyro-started'

export interface Frame {
  readonly type: FrameType
  readonly payload: Uint8Array
}

const NAMES = new Map<number, FrameName>(Object.entries(FRAME).map(([name, type]) => [type, name as FrameName]))

export const frameName = (type: number): FrameName | undefined => NAMES.get(type)

export const frameHeader = (type: FrameType, payloadBytes: number): Uint8Array => {
  const header = new Uint8Array(FRAME_HEADER_BYTES)
  header[0] = type
  new DataView(header.buffer).setUint32(1, payloadBytes)
  return header
}

export const encodeFrame = (type: FrameType, payload: Uint8Array): Uint8Array => {
  const bytes = new Uint8Array(FRAME_HEADER_BYTES + payload.byteLength)
  bytes[0] = type
  new DataView(bytes.buffer).setUint32(1, payload.byteLength)
  bytes.set(payload, FRAME_HEADER_BYTES)
  return bytes
}

export const encodeJsonFrame = (type: FrameType, value: unknown): Uint8Array =>
  encodeFrame(type, new TextEncoder().encode(JSON.stringify(value)))

/** A malformed frame stream. */
export class FrameError extends Error {
  override readonly name = 'FrameError'
}

/**
 * Cuts chunks into frames. Large payloads are handed on as several frames of the same type only for byte-carrying types,
 * so memory stays bounded by one chunk; JSON frames arrive whole.
 */
export class FrameDecoder {
  #header = new Uint8Array(FRAME_HEADER_BYTES)
  #headerFill = 0
  #type: FrameType | null = null
  #left = 0
  #whole: Uint8Array | null = null
  #wholeFill = 0
  readonly #jsonLimitBytes: number

  /** A reader of hostile input bounds what one JSON frame may make it allocate. */
  constructor(options: { readonly jsonLimitBytes?: number } = {}) {
    this.#jsonLimitBytes = options.jsonLimitBytes ?? FRAME_PAYLOAD_LIMIT_BYTES
  }

  /** True between two frames: a stream may end here. */
  get atBoundary(): boolean {
    return this.#type === null && this.#headerFill === 0
  }

  *push(chunk: Uint8Array): Generator<Frame, void, undefined> {
    let at = 0
    while (at < chunk.byteLength) {
      if (this.#type === null) {
        const take = Math.min(FRAME_HEADER_BYTES - this.#headerFill, chunk.byteLength - at)
        this.#header.set(chunk.subarray(at, at + take), this.#headerFill)
        this.#headerFill += take
        at += take
        if (this.#headerFill < FRAME_HEADER_BYTES) return
        const type = this.#header[0] ?? 0
        if (!NAMES.has(type)) throw new FrameError(`unknown frame type ${type}`)
        const length = new DataView(this.#header.buffer).getUint32(1)
        const limit = isByteFrame(type as FrameType) ? FRAME_PAYLOAD_LIMIT_BYTES : this.#jsonLimitBytes
        if (length > limit) throw new FrameError(`frame of ${length} bytes is beyond the limit`)
        this.#headerFill = 0
        if (length === 0) {
          yield { type: type as FrameType, payload: new Uint8Array(0) }
          continue
        }
        this.#type = type as FrameType
        this.#left = length
        if (!isByteFrame(this.#type)) {
          this.#whole = new Uint8Array(length)
          this.#wholeFill = 0
        }
        continue
      }
      const take = Math.min(this.#left, chunk.byteLength - at)
      const part = chunk.subarray(at, at + take)
      at += take
      this.#left -= take
      const type = this.#type
      if (this.#left === 0) this.#type = null
      if (this.#whole === null) {
        yield { type, payload: part }
        continue
      }
      this.#whole.set(part, this.#wholeFill)
      this.#wholeFill += take
      if (this.#left === 0) {
        const payload = this.#whole
        this.#whole = null
        yield { type, payload }
      }
    }
  }
}

const isByteFrame = (type: FrameType): boolean =>
  type === FRAME.stdout || type === FRAME.stderr || type === FRAME.stdin || type === FRAME.data
