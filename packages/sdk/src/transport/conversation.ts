import type { Socket } from 'node:net'
import {
  ANSWER_LIMIT_BYTES,
  batchesOf,
  CONNECTION_HEADER,
  encodeJsonFrame,
  FRAME,
  FrameDecoder,
  KEEP_CONNECTION,
  PyroError,
  type Frame,
} from '@pyro/protocol/client'
import { connectionError, EngineGone } from './engine-gone.ts'

/** The head of an answer is far smaller. */
const HEAD_BYTES = 16 * 1024
const HEAD_END = '\r\n\r\n'
export const SWITCHING_PROTOCOLS = 101

type Chunks = readonly Uint8Array[]

/** The head of an answer; frames follow it, or one JSON document. */
export interface Answer {
  readonly status: number
  readonly headers: ReadonlyMap<string, string>
  readonly framed: boolean
}

/** On a connection that is kept, frames alone. */
const FRAMES_FOLLOW: Answer = { status: SWITCHING_PROTOCOLS, headers: new Map(), framed: true }

/** A connection that speaks frames: one call, and where the engine keeps it another one behind each answer. */
export class Conversation {
  readonly socket: Socket
  readonly #batches: AsyncGenerator<Chunks, void, undefined>
  readonly #decoder = new FrameDecoder({ jsonLimitBytes: ANSWER_LIMIT_BYTES })
  /** What came behind the head of the first answer. */
  #behindHead: Chunks = []
  #isFirst = true
  #keeps = false
  readonly #leave = (): void => void this.socket.destroy()

  constructor(socket: Socket) {
    this.socket = socket
    this.#batches = batchesOf(socket)
  }

  /** True when another call may follow. */
  get keeps(): boolean {
    return this.#keeps && this.#decoder.atBoundary && !this.socket.destroyed
  }

  /** Begins the first call. What is written in the same turn goes out with it. */
  askFirst(head: string): void {
    this.#join()
    this.socket.write(head)
  }

  /** Begins another one. */
  ask(head: Readonly<Record<string, string>>): void {
    this.#join()
    this.socket.off('data', this.#leave)
    this.socket.ref()
    this.socket.write(encodeJsonFrame(FRAME.head, head))
  }

  /** Nobody asks: the process may end, and whatever comes has no meaning. */
  rest(): void {
    this.socket.unref()
    this.socket.on('data', this.#leave)
  }

  /**
   * Waits for the head of the answer.
   *
   * @throws EngineGone when the connection ends before it
   */
  async answer(): Promise<Answer> {
    if (!this.#isFirst) return FRAMES_FOLLOW
    let head = Buffer.alloc(0)
    for (;;) {
      const chunks = await this.next()
      if (chunks === null) throw new EngineGone('the engine ended before it had answered')
      head = Buffer.concat([head, ...chunks])
      const end = head.indexOf(HEAD_END)
      if (end < 0 && head.length > HEAD_BYTES) throw notHttp()
      if (end < 0) continue
      const rest = head.subarray(end + HEAD_END.length)
      if (rest.byteLength > 0) this.#behindHead = [rest]
      this.#isFirst = false
      const answer = headOf(head.toString('latin1', 0, end))
      this.#keeps = answer.framed && answer.headers.get(CONNECTION_HEADER) === KEEP_CONNECTION
      return answer
    }
  }

  /** What has come since the last look; null at the end of the connection. */
  async next(): Promise<Chunks | null> {
    if (this.#behindHead.length > 0) {
      const chunks = this.#behindHead
      this.#behindHead = []
      return chunks
    }
    try {
      const { value, done } = await this.#batches.next()
      return done === true ? null : value
    } catch (error) {
      throw connectionError(error)
    }
  }

  frames(chunk: Uint8Array): Iterable<Frame> {
    return this.#decoder.push(chunk)
  }

  /** The document of an answer that is not frames. */
  async document({ headers }: Answer): Promise<Buffer> {
    const length = Number(headers.get('content-length'))
    if (!headers.has('content-length') || Number.isNaN(length)) throw notHttp()
    if (length > ANSWER_LIMIT_BYTES) {
      throw new PyroError('limit.exceeded', `the answer of the engine is larger than ${ANSWER_LIMIT_BYTES} bytes`)
    }
    const parts: Uint8Array[] = []
    let missing = length
    for (let chunks = await this.next(); chunks !== null; chunks = await this.next()) {
      parts.push(...chunks)
      for (const { byteLength } of chunks) missing -= byteLength
      if (missing <= 0) return Buffer.concat(parts, length)
    }
    throw new EngineGone('the engine ended in the middle of an answer')
  }

  #join(): void {
    this.socket.cork()
    process.nextTick(() => this.socket.uncork())
  }
}

const headOf = (text: string): Answer => {
  const [start = '', ...lines] = text.split('\r\n')
  const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(start)?.[1])
  if (Number.isNaN(status)) throw notHttp()
  const headers = new Map<string, string>()
  for (const line of lines) {
    const at = line.indexOf(':')
    headers.set(line.slice(0, at).toLowerCase(), line.slice(at + 1).trim())
  }
  return { status, headers, framed: status === SWITCHING_PROTOCOLS }
}

const notHttp = (): PyroError => new PyroError('internal', 'the engine answered something that is not HTTP')
