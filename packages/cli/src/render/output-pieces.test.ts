import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { OutputPieces, type OutputPiece } from './output-pieces.ts'

/** Any bytes, cut anywhere. */
const chunksOf = (content: fc.Arbitrary<Uint8Array>): fc.Arbitrary<readonly Uint8Array[]> =>
  fc.tuple(content, fc.array(fc.nat({ max: 64 }))).map(([bytes, cuts]) => {
    const ends = [...cuts, bytes.length].filter((cut) => cut <= bytes.length).toSorted((a, b) => a - b)
    return ends.map((end, index) => bytes.subarray(ends[index - 1] ?? 0, end))
  })

const piecesOf = (chunks: readonly Uint8Array[]): readonly OutputPiece[] => {
  const pieces = new OutputPieces()
  return [...chunks.flatMap((chunk) => pieces.push('stdout', chunk) ?? []), ...pieces.flush()]
}

describe('pieces of output', () => {
  it('lose no byte, whatever the bytes and wherever they are cut', () => {
    fc.assert(
      fc.property(chunksOf(fc.uint8Array({ maxLength: 64 })), (chunks) => {
        const bytes = piecesOf(chunks).map(({ text, textBase64 }) =>
          textBase64 === undefined ? Buffer.from(text) : Buffer.from(textBase64, 'base64'),
        )
        expect(Buffer.concat(bytes).equals(Buffer.concat(chunks))).toBe(true)
      }),
    )
  })

  it('of a text are text, wherever it is cut', () => {
    const text = fc.string({ unit: 'grapheme', maxLength: 24 }).map((whole) => Uint8Array.from(Buffer.from(whole)))
    fc.assert(
      fc.property(chunksOf(text), (chunks) => {
        const pieces = piecesOf(chunks)
        expect(pieces.filter(({ textBase64 }) => textBase64 !== undefined)).toEqual([])
        expect(pieces.map((piece) => piece.text).join('')).toBe(Buffer.concat(chunks).toString())
      }),
    )
  })

  it('keep the two streams apart', () => {
    const pieces = new OutputPieces()
    expect(pieces.push('stdout', Buffer.from([0xc3]))).toBeNull()
    expect(pieces.push('stderr', Buffer.from('problem'))).toEqual({ stream: 'stderr', text: 'problem' })
    expect(pieces.push('stdout', Buffer.from([0xa4]))).toEqual({ stream: 'stdout', text: 'ä' })
    expect(pieces.flush()).toEqual([])
  })
})
