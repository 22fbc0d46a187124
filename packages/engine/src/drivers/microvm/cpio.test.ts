import { expect, test } from 'vitest'
import { cpioArchive } from './cpio.ts'

const HEADER_BYTES = 110

/** Reads what the kernel would unpack. */
const entriesOf = (archive: Buffer): { path: string; mode: string; content: string }[] => {
  const entries = []
  const aligned = (at: number): number => Math.ceil(at / 4) * 4
  for (let at = 0; ;) {
    const field = (index: number): number =>
      Number.parseInt(archive.toString('latin1', at + 6 + index * 8, at + 14 + index * 8), 16)
    expect(archive.toString('latin1', at, at + 6)).toBe('070701')
    const [mode, bytes, nameBytes] = [field(1), field(6), field(11)]
    const path = archive.toString('utf8', at + HEADER_BYTES, at + HEADER_BYTES + nameBytes - 1)
    const from = aligned(at + HEADER_BYTES + nameBytes)
    if (path === 'TRAILER!!!') {
      expect(from).toBe(archive.length)
      return entries
    }
    entries.push({ path, mode: mode.toString(8), content: archive.toString('utf8', from, from + bytes) })
    at = aligned(from + bytes)
  }
}

test('an archive holds its files, aligned, with the modes of programs, files and folders', () => {
  const files = ['', 'a', 'ab', 'abc', 'abcd', 'ü'].map((content, index) => ({
    path: `folder/${'x'.repeat(index)}`,
    content: Buffer.from(content),
    executable: index % 2 === 0,
  }))
  const archive = cpioArchive([{ path: 'folder', content: null }, ...files])
  expect(entriesOf(archive)).toEqual([
    { path: 'folder', mode: '40755', content: '' },
    ...files.map(({ path, content, executable }) => ({
      path,
      mode: executable ? '100755' : '100644',
      content: content.toString(),
    })),
  ])
})

test('the same files give the same bytes', () => {
  const make = (): Buffer => cpioArchive([{ path: 'init', content: Buffer.from('agent'), executable: true }])
  expect(make().equals(make())).toBe(true)
})
