import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { clipInline, HeadTail, inlineText } from './head-tail.ts'

describe('head and tail', () => {
  test('are the first and the last bytes, however the stream is cut', () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 30 }),
        fc.nat({ max: 30 }),
        fc.nat({ max: 50 }),
        (chunks, headBytes, tailBytes) => {
          const subject = new HeadTail({ headBytes, tailBytes })
          for (const chunk of chunks) subject.push(Buffer.from(chunk))
          const whole = Buffer.concat(chunks)
          const past = whole.subarray(headBytes)
          expect(subject.bytes).toBe(whole.length)
          expect(subject.head()).toEqual(whole.subarray(0, headBytes))
          expect(subject.tail()).toEqual(past.subarray(Math.max(0, past.length - tailBytes)))
        },
      ),
    )
  })

  test('hold bounded memory, however much is pushed', () => {
    const subject = new HeadTail({ headBytes: 1024, tailBytes: 2048 })
    const chunk = Buffer.alloc(65_536, 'x')
    for (let index = 0; index < 100; index++) subject.push(chunk)
    expect(subject.head().length + subject.tail().length).toBe(3072)
    expect(subject.bytes).toBe(6_553_600)
  })
})

describe('inline text', () => {
  test('of a stream that is all there is the stream', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), fc.nat({ max: 20 }), (text, cut) => {
        const bytes = Buffer.from(text)
        expect(inlineText(bytes.subarray(0, cut), bytes.subarray(cut), bytes.length)).toEqual({
          text,
          base64: null,
          truncated: false,
        })
      }),
    )
  })

  test('of a cut stream leaves out what the cut made of a character', () => {
    const bytes = Buffer.from('äöü€𝄞'.repeat(4))
    for (let head = 0; head < 14; head++) {
      for (let tail = 0; tail < 14; tail++) {
        const inline = inlineText(bytes.subarray(0, head), bytes.subarray(bytes.length - tail), bytes.length)
        expect(inline).toMatchObject({ base64: null, truncated: true })
        expect(inline.text).not.toContain('\u{FFFD}')
      }
    }
  })

  test('of bytes that are no text comes with the bytes', () => {
    const bytes = Buffer.from([0x61, 0xff, 0x62])
    expect(inlineText(bytes, Buffer.alloc(0), 3)).toEqual({
      text: 'a\u{FFFD}b',
      base64: bytes.toString('base64'),
      truncated: false,
    })
  })

  test('can be clipped to a budget', () => {
    const clipped = clipInline(Buffer.from('0123456789'), Buffer.from('abcdefghij'), 8)
    expect(Buffer.from(clipped.head).toString()).toBe('01')
    expect(Buffer.from(clipped.tail).toString()).toBe('efghij')
    const headOnly = clipInline(Buffer.from('0123456789'), Buffer.alloc(0), 4)
    expect(Buffer.from(headOnly.head).toString() + Buffer.from(headOnly.tail).toString()).toBe('0789')
  })
})
