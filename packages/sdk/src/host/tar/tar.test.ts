import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { encodeHeader, HEADER_LIMIT_BYTES, type TarEntry } from './encode.ts'
import { BLOCK_BYTES, OCTAL_SIZE_LIMIT, paddingOf, TYPE } from './header.ts'
import { TarReader, type UnpackedEntry } from './unpack.ts'

interface Content extends TarEntry {
  readonly bytes: Buffer
}

const archiveOf = (entries: readonly Content[]): Buffer => {
  const parts = entries.flatMap((entry) => {
    const header = Buffer.alloc(HEADER_LIMIT_BYTES, 0xff)
    const end = encodeHeader({ ...entry, sizeBytes: entry.bytes.length }, header, 0)
    return [header.subarray(0, end), entry.bytes, Buffer.alloc(paddingOf(entry.bytes.length))]
  })
  return Buffer.concat([...parts, Buffer.alloc(2 * BLOCK_BYTES)])
}

const read = (archive: Buffer, chunkBytes: number): { entry: UnpackedEntry; bytes: Buffer }[] => {
  const seen: { entry: UnpackedEntry; bytes: Buffer }[] = []
  const reader = new TarReader({
    entry: (entry) => void seen.push({ entry, bytes: Buffer.alloc(0) }),
    content: (bytes) => {
      const last = seen.at(-1)
      if (last !== undefined) last.bytes = Buffer.concat([last.bytes, bytes])
    },
    end: () => undefined,
  })
  for (let at = 0; at < archive.length; at += chunkBytes) reader.push(archive.subarray(at, at + chunkBytes))
  reader.finish()
  return seen
}

const file = (path: string, bytes = Buffer.alloc(0)): Content => ({
  path,
  type: TYPE.file,
  mode: 0o644,
  mtimeSeconds: 1_700_000_000,
  sizeBytes: bytes.length,
  linkName: '',
  bytes,
})

/** Any byte a file name may hold. */
const nameByte = fc.integer({ min: 1, max: 255 }).filter((byte) => byte !== 0x2f)
const part = fc
  .array(nameByte, { minLength: 1, maxLength: 120 })
  .map((bytes) => Buffer.from(bytes).toString('latin1'))
  .filter((name) => name !== '.' && name !== '..')
/** What needs no extension: a long path is cut into name and prefix. */
const plainPart = fc.stringMatching(/^[a-z][a-z.-]{20,60}$/)
const path = fc
  .oneof(fc.array(part, { minLength: 1, maxLength: 6 }), fc.array(plainPart, { minLength: 3, maxLength: 4 }))
  .map((parts) => parts.join('/'))

describe('a tar', () => {
  it('gives back any path, mode, time and content, however its bytes arrive', () => {
    const entry = fc.record({
      path,
      mode: fc.integer({ min: 0, max: 0o777 }),
      mtimeSeconds: fc.integer({ min: -20_000_000_000, max: 20_000_000_000 }),
      bytes: fc.uint8Array({ maxLength: 1500 }).map((bytes) => Buffer.from(bytes)),
    })
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 5 }), fc.integer({ min: 1, max: 2000 }), (entries, chunkBytes) => {
        const contents = entries.map((given) => ({ ...file(given.path, given.bytes), ...given }))
        const seen = read(archiveOf(contents), chunkBytes)
        expect(
          seen.map(({ entry: { path, mode, mtimeSeconds }, bytes }) => ({ path, mode, mtimeSeconds, bytes })),
        ).toEqual(entries)
      }),
      { numRuns: 200 },
    )
  })

  it('carries long link targets and drops set-id bits', () => {
    const target = 'very/'.repeat(60) + 'long'
    const link = { ...file('link'), type: TYPE.symlink, linkName: target }
    const [first] = read(archiveOf([link, { ...file('set-id'), mode: 0o6755 }]), 512)
    expect(first?.entry).toMatchObject({ type: TYPE.symlink, linkName: target })
    expect(read(archiveOf([{ ...file('set-id'), mode: 0o6755 }]), 512)[0]?.entry.mode).toBe(0o755)
  })

  it('writes sizes beyond eight octal gigabytes as pax', () => {
    const header = Buffer.alloc(HEADER_LIMIT_BYTES)
    const end = encodeHeader({ ...file('big'), sizeBytes: OCTAL_SIZE_LIMIT + 1 }, header, 0)
    expect(end).toBe(3 * BLOCK_BYTES)
    expect(header.toString('latin1', BLOCK_BYTES)).toContain(`size=${OCTAL_SIZE_LIMIT + 1}\n`)
  })

  it.each([0, 100, 512, 700, 1024, 1500])('that ends after %i bytes is damaged', (cut) => {
    const archive = archiveOf([file('name', Buffer.alloc(600, 'x'))])
    expect(() => read(archive.subarray(0, cut), 64)).toThrow(expect.objectContaining({ code: 'archive.truncated' }))
  })

  it('with a changed header is damaged', () => {
    const archive = archiveOf([file('name')])
    archive[3] = 0x7a
    expect(() => read(archive, 512)).toThrow(expect.objectContaining({ code: 'archive.truncated' }))
  })

  it('never takes more than a bounded name', () => {
    const archive = archiveOf([
      { ...file('x'), type: TYPE.gnuLongName as never, bytes: Buffer.alloc(2 * 1024 * 1024, 'n') },
    ])
    expect(() => read(archive, 4096)).toThrow(/too long/)
  })
})
