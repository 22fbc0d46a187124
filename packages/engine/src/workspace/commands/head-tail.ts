import { isUtf8 } from 'node:buffer'

/** The ring starts small: most commands print little. */
const FIRST_RING_BYTES = 4 * 1024

export interface HeadTailLimits {
  readonly headBytes: number
  readonly tailBytes: number
}

/** Keeps the first and the last bytes of a stream of any length, in bounded memory. */
export class HeadTail {
  readonly #limits: HeadTailLimits
  #head: Buffer = Buffer.alloc(0)
  #headFill = 0
  #ring: Buffer = Buffer.alloc(0)
  /** Bytes of the stream that went past the head. */
  #past = 0
  /** Bytes seen in all. */
  bytes = 0

  constructor(limits: HeadTailLimits) {
    this.#limits = limits
  }

  push(data: Buffer): void {
    this.bytes += data.length
    const forHead = Math.min(data.length, this.#limits.headBytes - this.#headFill)
    if (forHead > 0) this.#fillHead(data.subarray(0, forHead))
    if (forHead < data.length) this.#fillRing(data.subarray(forHead))
  }

  head(): Buffer {
    return Buffer.from(this.#head.subarray(0, this.#headFill))
  }

  /** What follows the head, or the end of it. */
  tail(): Buffer {
    const limit = this.#limits.tailBytes
    if (this.#past <= limit) return Buffer.from(this.#ring.subarray(0, this.#past))
    const start = this.#past % limit
    return Buffer.concat([this.#ring.subarray(start, limit), this.#ring.subarray(0, start)])
  }

  #fillHead(data: Buffer): void {
    const wanted = this.#headFill + data.length
    if (wanted > this.#head.length) this.#head = grown(this.#head, this.#headFill, wanted, this.#limits.headBytes)
    data.copy(this.#head, this.#headFill)
    this.#headFill = wanted
  }

  #fillRing(data: Buffer): void {
    const limit = this.#limits.tailBytes
    if (limit === 0) return
    const kept = data.length > limit ? data.subarray(data.length - limit) : data
    this.#past += data.length - kept.length
    const filled = Math.min(this.#past, limit)
    const wanted = Math.min(filled + kept.length, limit)
    if (wanted > this.#ring.length) this.#ring = grown(this.#ring, filled, wanted, limit)
    const at = this.#past % limit
    const first = Math.min(kept.length, limit - at)
    kept.copy(this.#ring, at, 0, first)
    kept.copy(this.#ring, 0, first)
    this.#past += kept.length
  }
}

const grown = (buffer: Buffer, fill: number, wantedBytes: number, limitBytes: number): Buffer => {
  const size = Math.min(limitBytes, Math.max(wantedBytes, buffer.length * 2, FIRST_RING_BYTES))
  const larger = Buffer.allocUnsafeSlow(size)
  buffer.copy(larger, 0, 0, fill)
  return larger
}

export interface InlineText {
  readonly text: string
  /** Null when the text is the bytes. */
  readonly base64: string | null
  readonly truncated: boolean
}

/** Text of a stream from its first and last bytes; what a cut made of a character is left out. */
export const inlineText = (head: Uint8Array, tail: Uint8Array, streamBytes: number): InlineText => {
  const truncated = head.byteLength + tail.byteLength < streamBytes
  const parts = truncated ? [withoutCutEnd(asBuffer(head)), withoutCutStart(asBuffer(tail))] : [head, tail]
  const bytes = Buffer.concat(parts)
  const text = bytes.toString('utf8')
  return { text, base64: isUtf8(bytes) ? null : bytes.toString('base64'), truncated }
}

/** Shortens first and last part to `budgetBytes` in the same proportion as the limits. */
export const clipInline = (
  head: Uint8Array,
  tail: Uint8Array,
  budgetBytes: number,
): { readonly head: Uint8Array; readonly tail: Uint8Array } => {
  if (head.byteLength + tail.byteLength <= budgetBytes) return { head, tail }
  const keptHead = head.subarray(0, Math.floor(budgetBytes / 4))
  const rest = tail.byteLength === 0 ? head.subarray(keptHead.byteLength) : tail
  return { head: keptHead, tail: rest.subarray(Math.max(0, rest.byteLength - (budgetBytes - keptHead.byteLength))) }
}

const asBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)

const isContinuation = (byte: number | undefined): boolean => byte !== undefined && (byte & 0xc0) === 0x80

const withoutCutStart = (bytes: Buffer): Buffer => {
  let start = 0
  while (start < 3 && isContinuation(bytes[start])) start++
  return bytes.subarray(start)
}

const withoutCutEnd = (bytes: Buffer): Buffer => {
  let start = bytes.length - 1
  while (start > bytes.length - 4 && isContinuation(bytes[start])) start--
  const lead = bytes[start]
  if (lead === undefined || lead < 0xc0) return bytes
  const length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2
  return start + length > bytes.length ? bytes.subarray(0, start) : bytes
}
