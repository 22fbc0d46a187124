import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { CommandOutput, type OutputStream } from './command-output.ts'
import { firstBytes, lastBytes, type Shown } from './line-window.ts'
import { duration, size } from './quantity.ts'
import { clipLine, LINE_LIMIT_CHARACTERS, oneLine, plainText } from './terminal-text.ts'

const collect = (
  chunks: readonly (readonly [OutputStream, Uint8Array])[],
  maxBytes: number,
  keep: 'both' | 'head' = 'both',
): Shown => {
  const output = new CommandOutput({ maxBytes, keep, startOffset: 0 })
  for (const [stream, bytes] of chunks) output.write(stream, bytes)
  return output.finish()
}

const show = (text: string, maxBytes = 8192): Shown => collect([['stdout', Buffer.from(text)]], maxBytes)

/** Text as terminals get it: plain words, colours, titles, progress, multi-byte characters. */
const terminalPiece = fc.oneof(
  fc.string({ unit: 'grapheme', maxLength: 20 }),
  fc.constantFrom(
    '\r',
    '\n',
    '\r\n',
    '\b',
    '\t',
    '\u001b[31m',
    '\u001b[0K',
    '\u001b]0;title\u0007',
    '\u001b]8;;u\u001b\\',
    '\u001b(B',
    '\u009b1m',
    '\u001b',
    '𝄞',
    'ü',
  ),
)
const terminalText = fc.array(terminalPiece, { maxLength: 60 }).map((pieces) => pieces.join(''))

describe('plain text', () => {
  it('loses colours, titles, links and charset switches', () => {
    expect(
      plainText(
        '\u001b[1;31mred\u001b[0m \u001b]0;title\u0007\u001b]8;;http://x\u001b\\link\u001b]8;;\u001b\\ \u001b(Bend',
      ),
    ).toBe('red link end')
  })

  it('keeps the last state of a progress line that redraws itself', () => {
    expect(plainText('10%\r50%\r100%\ndone\r\n')).toBe('100%\ndone\n')
    expect(plainText('working |\b/\b-\bok')).toBe('working ok')
  })

  it('says how much of a long line is missing', () => {
    const line = plainText('x'.repeat(LINE_LIMIT_CHARACTERS + 7))
    expect(line).toBe(`${'x'.repeat(LINE_LIMIT_CHARACTERS)}… (+7 characters)`)
    expect(clipLine('y'.repeat(LINE_LIMIT_CHARACTERS))).toHaveLength(LINE_LIMIT_CHARACTERS)
  })

  it('never holds a control character but tab and line feed, nor half a character', () => {
    fc.assert(
      fc.property(fc.oneof(terminalText, fc.string({ unit: 'binary' })), (text) => {
        const plain = plainText(text)
        expect(plain).not.toMatch(/(?![\t\n])\p{Cc}/u)
        expect(plain.split('\n')).toHaveLength(text.split('\n').length)
      }),
    )
  })

  it('is its own result, unless a line was clipped', () => {
    fc.assert(
      fc.property(terminalText, (text) => {
        const once = plainText(text)
        expect(plainText(once)).toBe(once)
      }),
    )
  })

  it('shows names with control characters on one line', () => {
    expect(oneLine('a\nb\u001b[31m\u202e')).toBe('a\\x0ab\\x1b[31m\\u202e')
  })
})

describe('output of a command', () => {
  it('is the same however it is cut into chunks', () => {
    fc.assert(
      fc.property(
        terminalText,
        fc.array(fc.nat(400), { maxLength: 8 }),
        fc.integer({ min: 16, max: 400 }),
        (text, cuts, maxBytes) => {
          const bytes = Buffer.from(text)
          const at = [0, ...cuts.filter((cut) => cut < bytes.length).toSorted((a, b) => a - b), bytes.length]
          const chunks = at
            .slice(1)
            .map((end, index) => ['stdout' as const, bytes.subarray(at[index] ?? 0, end)] as const)
          expect(collect(chunks, maxBytes)).toEqual(show(text, maxBytes))
        },
      ),
    )
  })

  it('is shown whole when it fits', () => {
    fc.assert(
      fc.property(terminalText, (text) => {
        const { head, tail, leftOut } = show(text, 1_000_000)
        const plain = plainText(text)
        expect(leftOut).toBeNull()
        expect(tail).toBe('')
        expect(head.replace(/\n$/, '')).toBe(plain.replace(/\n$/, ''))
      }),
    )
  })

  it('never exceeds its budget, is cut at line ends, and counts exactly what is left out', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(60), { maxLength: 200 }), fc.integer({ min: 64, max: 2000 }), (lengths, maxBytes) => {
        const lines = lengths.map((length, index) => `${index}:${'x'.repeat(length)}\n`)
        const text = lines.join('')
        const { head, tail, leftOut } = show(text, maxBytes)
        expect(Buffer.byteLength(head) + Buffer.byteLength(tail)).toBeLessThanOrEqual(maxBytes)
        const { offset, bytes, lines: leftOutLines } = leftOut ?? { offset: head.length, bytes: 0, lines: 0 }
        const between = text.slice(offset, offset + bytes)
        expect(head + between + tail).toBe(text)
        expect(offset).toBe(head.length)
        expect(between.split('\n')).toHaveLength(leftOutLines + 1)
        expect(Buffer.byteLength(head)).toBeLessThanOrEqual(leftOut === null ? maxBytes : maxBytes / 4)
      }),
    )
  })

  it('keeps both streams in order of arrival and their characters apart', () => {
    const ü = Buffer.from('ü')
    const shown = collect(
      [
        ['stdout', Buffer.from('one\n')],
        ['stderr', Buffer.from('two\n')],
        ['stdout', ü.subarray(0, 1)],
        ['stderr', Buffer.from('three\n')],
        ['stdout', Buffer.concat([ü.subarray(1), Buffer.from('\n')])],
      ],
      8192,
    )
    expect(shown.head).toBe('one\ntwo\nthree\nü\n')
  })

  it('takes 2 KiB of head and 6 KiB of tail by default', () => {
    const { head, tail } = show(`${'x'.repeat(99)}\n`.repeat(1000))
    expect(head).toHaveLength(2000)
    expect(tail).toHaveLength(6100)
  })

  it('reads on from where a page ended, without a gap', () => {
    const text = Array.from({ length: 500 }, (_, index) => `line ${index}\n`).join('')
    let offset = 0
    let all = ''
    for (;;) {
      const page = new CommandOutput({ maxBytes: 300, keep: 'head', startOffset: offset })
      page.write('stdout', Buffer.from(text).subarray(offset))
      const { head, leftOut } = page.finish()
      all += head
      if (leftOut === null) break
      offset = leftOut.offset
    }
    expect(all).toBe(text)
  })

  it('shows the end of one line that is larger than everything', () => {
    const output = show('🙂'.repeat(900), 512)
    expect(Buffer.byteLength(output.head + output.tail)).toBeLessThanOrEqual(512)
    expect(output.tail).toMatch(/^🙂+\n$/u)
    expect(output.leftOut).toMatchObject({ offset: 0, lines: 0 })
    expect(Number(output.leftOut?.bytes) + Buffer.byteLength(output.tail)).toBe(3601)
  })
})

describe('cutting bytes', () => {
  it('never cuts a character', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), fc.nat(40), (text, maxBytes) => {
        for (const part of [firstBytes(text, maxBytes), lastBytes(text, maxBytes)]) {
          expect(Buffer.byteLength(part)).toBeLessThanOrEqual(maxBytes)
          expect(text).toContain(part)
        }
      }),
    )
  })
})

describe('quantities', () => {
  it('are short', () => {
    expect([3, 3200, 20_000, 120_000, 250_000, 7_500_000, 300_000_000].map(duration)).toEqual([
      '3 ms',
      '3.2 s',
      '20 s',
      '120 s',
      '4 min 10 s',
      '2 h 5 min',
      '3 d',
    ])
    expect([512, 1536, 16_384, 3 * 1024 ** 2].map(size)).toEqual(['512 B', '1.5 KiB', '16 KiB', '3 MiB'])
  })
})
