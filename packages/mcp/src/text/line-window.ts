/**
 * The beginning and the end of a text that may be endless, cut at line ends: a quarter of the bytes from its head, the rest
 * from its tail. What lies between is counted and located, not kept.
 */

const HEAD_SHARE = 1 / 4

export interface LeftOut {
  /** Bytes of the original output that are not shown, and where they begin in it. */
  readonly bytes: number
  readonly offset: number
  readonly lines: number
}

export interface Shown {
  readonly head: string
  readonly tail: string
  /** Between head and tail. */
  readonly leftOut: LeftOut | null
}

interface Line {
  readonly text: string
  readonly sizeBytes: number
  /** Where the line ends in the original output. */
  readonly endOffset: number
}

export interface LineWindowOptions {
  readonly maxBytes: number
  /** `both`: head and tail. `head`: only the beginning, to read on from where it ends. */
  readonly keep: 'both' | 'head'
  /** Where the output begins, when it is read from further on. */
  readonly startOffset: number
}

export class LineWindow {
  readonly #options: LineWindowOptions
  readonly #headBudget: number
  #head = ''
  #headBytes = 0
  #headEnd: number
  #headOpen = true
  #tail: Line[] = []
  #tailStart = 0
  #tailBytes = 0
  #dropped = 0
  /** Bytes cut from the front of a last line that is larger than the whole tail may be. */
  #cutBytes = 0
  /** Where the last dropped line ends. */
  #droppedEnd: number

  constructor(options: LineWindowOptions) {
    this.#options = options
    this.#headBudget = options.keep === 'head' ? options.maxBytes : Math.floor(options.maxBytes * HEAD_SHARE)
    this.#headEnd = options.startOffset
    this.#droppedEnd = options.startOffset
  }

  /** True when nothing that is added now would be shown. */
  get closed(): boolean {
    return this.#options.keep === 'head' && !this.#headOpen
  }

  /** A line with its line feed, or the last one without. */
  add(text: string, endOffset: number): void {
    const sizeBytes = Buffer.byteLength(text)
    if (this.#headOpen && this.#headBytes + sizeBytes <= this.#headBudget) {
      this.#head += text
      this.#headBytes += sizeBytes
      this.#headEnd = endOffset
      return
    }
    if (this.#headOpen && this.#options.keep === 'head' && this.#headBytes === 0) {
      // One line larger than everything that may be shown: better its beginning than nothing.
      this.#head = firstBytes(text, this.#headBudget)
      this.#headBytes = Buffer.byteLength(this.#head)
      this.#headEnd = endOffset
      this.#headOpen = false
      return
    }
    this.#headOpen = false
    this.#addToTail({ text, sizeBytes, endOffset })
  }

  #addToTail(line: Line): void {
    const budget = this.#options.keep === 'head' ? 0 : this.#options.maxBytes - this.#headBytes
    this.#tail.push(line)
    this.#tailBytes += line.sizeBytes
    while (this.#tailBytes > budget) {
      const oldest = this.#tail[this.#tailStart]
      if (oldest === undefined) break
      if (this.#tailStart === this.#tail.length - 1 && budget > 0) {
        const text = lastBytes(oldest.text, budget)
        const sizeBytes = Buffer.byteLength(text)
        this.#cutBytes += oldest.sizeBytes - sizeBytes
        this.#tail[this.#tailStart] = { text, sizeBytes, endOffset: oldest.endOffset }
        this.#tailBytes = sizeBytes
        break
      }
      this.#tailStart += 1
      this.#tailBytes -= oldest.sizeBytes
      this.#dropped += 1
      this.#droppedEnd = oldest.endOffset
      this.#cutBytes = 0
    }
    // Removing one element at a time from the front would make this quadratic.
    if (this.#tailStart > 1024 && this.#tailStart * 2 > this.#tail.length) {
      this.#tail = this.#tail.slice(this.#tailStart)
      this.#tailStart = 0
    }
  }

  get shown(): Shown {
    const tail = this.#tail
      .slice(this.#tailStart)
      .map(({ text }) => text)
      .join('')
    if (this.#dropped === 0 && this.#cutBytes === 0) return { head: this.#head + tail, tail: '', leftOut: null }
    const between = this.#dropped === 0 ? 0 : this.#droppedEnd - this.#headEnd
    const leftOut = { bytes: between + this.#cutBytes, offset: this.#headEnd, lines: this.#dropped }
    return { head: this.#head, tail, leftOut }
  }
}

/** At most this many bytes from the beginning of a text, cut between characters. */
export const firstBytes = (text: string, maxBytes: number): string => {
  const bytes = Buffer.from(text)
  if (bytes.byteLength <= maxBytes) return text
  let end = maxBytes
  while (end > 0 && isContinuation(bytes[end])) end -= 1
  return bytes.subarray(0, end).toString()
}

/** At most this many bytes from the end of a text, cut between characters. */
export const lastBytes = (text: string, maxBytes: number): string => {
  const bytes = Buffer.from(text)
  if (bytes.byteLength <= maxBytes) return text
  let start = bytes.byteLength - maxBytes
  while (start < bytes.byteLength && isContinuation(bytes[start])) start += 1
  return bytes.subarray(start).toString()
}

const isContinuation = (byte: number | undefined): boolean => byte !== undefined && (byte & 0xc0) === 0x80
