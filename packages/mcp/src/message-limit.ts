import { Transform, type TransformCallback } from 'node:stream'

const LINE_FEED = 0x0a
/** Where a request has its id: nearly always first or last. */
const EDGE_BYTES = 256
const ID = String.raw`(\d+|"(?:[^"\\]|\\.)*")`
const FIRST = new RegExp(String.raw`^\s*\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?"id"\s*:\s*${ID}\s*,`)
// One brace behind it: the end of the request itself, not of something within.
const LAST = new RegExp(String.raw`,\s*"id"\s*:\s*${ID}\s*(?:,\s*"jsonrpc"\s*:\s*"2\.0"\s*)?\}\s*$`)

export interface MessageLimitOptions {
  readonly limitBytes: number
  /** Called with the id of a request that is dropped, as JSON; null when it does not show. */
  readonly onDropped: (id: string | null) => void
  /** Called for a line that is no JSON, with what is wrong with it. */
  readonly onUnreadable: (reason: string) => void
}

/**
 * Lets lines through, but for those beyond the limit and those that are no JSON: of the first, one ends the connection of the transport
 * behind it; the second it drops without a word.
 */
export class MessageLimit extends Transform {
  readonly #options: MessageLimitOptions
  /** The line so far; of one beyond the limit only its edges. */
  #parts: Buffer[] = []
  #bytes = 0
  #head = Buffer.alloc(0)
  #tail = Buffer.alloc(0)

  constructor(options: MessageLimitOptions) {
    super()
    this.#options = options
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    for (let at = 0; at < chunk.length;) {
      const feed = chunk.indexOf(LINE_FEED, at)
      const end = feed === -1 ? chunk.length : feed + 1
      this.#add(chunk.subarray(at, end))
      if (feed !== -1) this.#endLine()
      at = end
    }
    done()
  }

  /** What has no line feed is no message. */
  override _flush(done: TransformCallback): void {
    this.#clear()
    done()
  }

  #add(part: Buffer): void {
    this.#bytes += part.length
    if (this.#head.length < EDGE_BYTES)
      this.#head = Buffer.concat([this.#head, part.subarray(0, EDGE_BYTES - this.#head.length)])
    this.#tail = Buffer.concat([this.#tail, part.subarray(-EDGE_BYTES)]).subarray(-EDGE_BYTES)
    if (this.#isTooLong) this.#parts = []
    else this.#parts.push(part)
  }

  #endLine(): void {
    if (this.#isTooLong) {
      const id = FIRST.exec(this.#head.toString('utf8'))?.[1] ?? LAST.exec(this.#tail.toString('utf8'))?.[1] ?? null
      this.#options.onDropped(id)
    } else this.#pass(Buffer.concat(this.#parts))
    this.#clear()
  }

  #pass(line: Buffer): void {
    const text = line.toString('utf8')
    if (text.trim() === '') return
    const reason = whyUnreadable(text)
    if (reason === null) this.push(line)
    else this.#options.onUnreadable(reason)
  }

  get #isTooLong(): boolean {
    return this.#bytes > this.#options.limitBytes
  }

  #clear(): void {
    this.#parts = []
    this.#bytes = 0
    this.#head = Buffer.alloc(0)
    this.#tail = Buffer.alloc(0)
  }
}

const whyUnreadable = (text: string): string | null => {
  try {
    JSON.parse(text)
    return null
  } catch (error) {
    if (error instanceof SyntaxError) return error.message
    throw error
  }
}
