import { PyroError } from '@pyro/protocol'

// Documentation/arch/x86/boot.rst
const SETUP_SECTORS_AT = 0x1f1
const SECTOR_BYTES = 512
const MAGIC_AT = 0x202
const MAGIC = 'HdrS'
const PAYLOAD_AT = 0x248
const HEADER_BYTES = 0x250
/** Behind the compressed kernel stands the size that it unpacks to. */
const SIZE_BYTES = 4
const KERNEL_LIMIT_BYTES = 256 * 1024 * 1024

/** `lz4 -l`, which the kernel packs itself with (lib/decompress_unlz4.c). */
const LZ4_LEGACY = 0x184c2102
const LZ4_SHORTEST_MATCH = 4
const ELF = Buffer.from('\x7fELF', 'latin1')

/** The kernel inside of a bzImage, as Firecracker boots it. Of the ways to pack it, Debian's cloud kernels use one. */
export const vmlinuxOf = (image: Buffer): Buffer => {
  const packed = payloadOf(image)
  if (packed.length < 2 * SIZE_BYTES || packed.readUInt32LE(0) !== LZ4_LEGACY)
    throw unusable('it is not packed with LZ4')
  const bytes = packed.readUInt32LE(packed.length - SIZE_BYTES)
  if (bytes > KERNEL_LIMIT_BYTES) throw unusable(`it unpacks to ${bytes} bytes`)
  const kernel = Buffer.alloc(bytes)
  const blocks = packed.subarray(SIZE_BYTES, -SIZE_BYTES)
  let filled = 0
  for (let at = 0; at + SIZE_BYTES <= blocks.length;) {
    const end = at + SIZE_BYTES + blocks.readUInt32LE(at)
    if (end > blocks.length) throw unusable('it is cut off')
    filled = unpackBlock(blocks.subarray(at + SIZE_BYTES, end), kernel, filled)
    at = end
  }
  if (filled !== bytes || !kernel.subarray(0, ELF.length).equals(ELF)) throw unusable('what it unpacks to is no kernel')
  return kernel
}

const payloadOf = (image: Buffer): Buffer => {
  if (image.length < HEADER_BYTES || image.toString('latin1', MAGIC_AT, MAGIC_AT + MAGIC.length) !== MAGIC)
    throw unusable('it is no bzImage')
  const start = (image.readUInt8(SETUP_SECTORS_AT) + 1) * SECTOR_BYTES + image.readUInt32LE(PAYLOAD_AT)
  return image.subarray(start, start + image.readUInt32LE(PAYLOAD_AT + SIZE_BYTES))
}

/** Appends one block (LZ4 block format) behind what is there, which it may refer to as far as it wrote it; gives the new end. */
const unpackBlock = (block: Buffer, into: Buffer, begin: number): number => {
  let at = 0
  let end = begin
  const byte = (): number => {
    const value = block[at++]
    if (value === undefined) throw unusable('a block is cut off')
    return value
  }
  const length = (nibble: number): number => {
    let value = nibble
    for (let more = nibble === 15; more;) {
      const next = byte()
      value += next
      more = next === 255
    }
    return value
  }
  while (at < block.length) {
    const token = byte()
    const literals = length(token >> 4)
    if (at + literals > block.length || end + literals > into.length) throw unusable('a block is too long')
    block.copy(into, end, at, at + literals)
    at += literals
    end += literals
    // The last sequence of a block has literals only.
    if (at === block.length) break
    const distance = byte() | (byte() << 8)
    const match = length(token & 15) + LZ4_SHORTEST_MATCH
    if (distance === 0 || distance > end - begin || end + match > into.length)
      throw unusable('a block refers to nothing')
    // A match may overlap with what it makes.
    for (let copied = 0; copied < match; copied++, end++) into[end] = into[end - distance] ?? 0
  }
  return end
}

const unusable = (why: string): PyroError =>
  new PyroError('internal', `Firecracker cannot boot the kernel of the package: ${why}`)
