import { describe, expect, test } from 'vitest'
import { vmlinuxOf } from './vmlinux.ts'

const SETUP_SECTORS = 4

/** A bzImage around a payload. */
const imageOf = (payload: Buffer): Buffer => {
  const start = (SETUP_SECTORS + 1) * 512
  const image = Buffer.alloc(start + 16)
  image.writeUInt8(SETUP_SECTORS, 0x1f1)
  image.write('HdrS', 0x202)
  image.writeUInt32LE(16, 0x248)
  image.writeUInt32LE(payload.length, 0x24c)
  return Buffer.concat([image, payload, Buffer.from('what follows')])
}

const number = (value: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}

const packed = (size: number, ...blocks: readonly Buffer[]): Buffer =>
  Buffer.concat([number(0x184c2102), ...blocks.flatMap((block) => [number(block.length), block]), number(size)])

const literals = (text: string): Buffer => Buffer.concat([Buffer.from([text.length << 4]), Buffer.from(text, 'latin1')])
/** Some text, and a copy of what lies behind it. */
const sequence = (text: string, distance: number, length: number): Buffer => {
  const match = length - 4
  const token = (text.length << 4) | Math.min(match, 15)
  const more = match < 15 ? [] : [...Array<number>(Math.floor((match - 15) / 255)).fill(255), (match - 15) % 255]
  const copy = [distance & 255, distance >> 8, ...more]
  return Buffer.concat([Buffer.from([token]), Buffer.from(text, 'latin1'), Buffer.from(copy)])
}

describe('a kernel', () => {
  test('is unpacked with its literals, copies, copies of themselves and long lengths, block by block', () => {
    const first = Buffer.concat([sequence('\x7fELFab', 2, 300), literals('end')])
    const second = Buffer.concat([sequence('xyz', 3, 4), literals('.')])
    const kernel = `\x7fELFab${'ab'.repeat(150)}endxyzxyzx.`
    const image = imageOf(packed(kernel.length, first, second))
    expect(vmlinuxOf(image).toString('latin1')).toBe(kernel)
  })

  const elf = literals('\x7fELF')
  const cases: Readonly<Record<string, [Buffer, RegExp]>> = {
    'no bzImage': [Buffer.from('MZ'), /no bzImage/],
    'packed otherwise': [imageOf(Buffer.from('\xfd7zXZ\0 and so on', 'latin1')), /not packed with LZ4/],
    'larger than any kernel': [imageOf(packed(0xffffffff, elf)), /unpacks to 4294967295 bytes/],
    'cut off between blocks': [imageOf(Buffer.concat([number(0x184c2102), number(9), elf, number(4)])), /cut off/],
    'cut off in a block': [imageOf(packed(4, elf.subarray(0, 3))), /too long/],
    'shorter than it says': [imageOf(packed(5, elf)), /no kernel/],
    'longer than it says': [imageOf(packed(3, elf)), /too long/],
    'a copy of nothing': [imageOf(packed(9, sequence('a', 2, 8))), /refers to nothing/],
    'a copy from another block': [imageOf(packed(13, elf, sequence('', 1, 9))), /refers to nothing/],
    'no ELF file': [imageOf(packed(4, literals('text'))), /no kernel/],
  }
  test.each(Object.entries(cases))('that is %s is refused', (_name, [image, message]) => {
    expect(() => vmlinuxOf(image)).toThrow(message)
  })
})
