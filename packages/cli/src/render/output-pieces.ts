import { isUtf8 } from 'node:buffer'

type Stream = 'stdout' | 'stderr'

/** One piece of a command's output: text, and the bytes where they are no text. */
export interface OutputPiece {
  readonly stream: Stream
  readonly text: string
  readonly textBase64?: string
}

/** Makes pieces of output of chunks that may end within a character: the rest of it is awaited, so that text stays text. */
export class OutputPieces {
  readonly #open: Record<Stream, Uint8Array> = { stdout: new Uint8Array(0), stderr: new Uint8Array(0) }

  /** Null while a character is not over. */
  push(stream: Stream, chunk: Uint8Array): OutputPiece | null {
    const bytes = Buffer.concat([this.#open[stream], chunk])
    const whole = bytes.length - openEnd(bytes)
    this.#open[stream] = bytes.subarray(whole)
    return whole === 0 ? null : pieceOf(stream, bytes.subarray(0, whole))
  }

  /** What is still awaited, when nothing follows it. */
  flush(): readonly OutputPiece[] {
    return (['stdout', 'stderr'] as const).flatMap((stream) => {
      const bytes = this.#open[stream]
      this.#open[stream] = new Uint8Array(0)
      return bytes.length === 0 ? [] : [pieceOf(stream, Buffer.from(bytes))]
    })
  }
}

const pieceOf = (stream: Stream, bytes: Buffer): OutputPiece => {
  const text = bytes.toString()
  return isUtf8(bytes) ? { stream, text } : { stream, text, textBase64: bytes.toString('base64') }
}

/** How many bytes at the end begin a character that is not over. */
const openEnd = (bytes: Uint8Array): number => {
  for (let length = 1; length <= Math.min(3, bytes.length); length++) {
    const byte = bytes[bytes.length - length] ?? 0
    const isInside = (byte & 0xc0) === 0x80
    if (!isInside) return length < lengthOf(byte) ? length : 0
  }
  return 0
}

/** Bytes of the character that begins so. */
const lengthOf = (first: number): number => {
  if (first < 0xc0) return 1
  if (first < 0xe0) return 2
  return first < 0xf0 ? 3 : 4
}
