import { closeSync, constants, fstatSync, lstatSync, openSync, readlinkSync, readSync, type Stats } from 'node:fs'
import { LIMITS, PyroError } from '@pyro/protocol/client'
import { fromBuffer, shownPath, systemPath, type BytePath } from '../path-bytes.ts'
import { encodeHeader, HEADER_LIMIT_BYTES, type TarEntry } from './encode.ts'
import { BLOCK_BYTES, paddingOf, TYPE } from './header.ts'

/** Bytes handed on at a time; headers and small files are gathered up to this size. */
const CHUNK_BYTES = 1024 * 1024

export interface PackSource {
  /** Where the entry is on this host. */
  readonly source: BytePath
  /** Where it goes, relative to the root of the archive. */
  readonly path: BytePath
}

/** Files vanish and change while they are read; what vanished is left out, what cannot be read whole ends the archive. */
export interface PackCounts {
  files: number
  bytes: number
}

/**
 * Packs files into a tar, a megabyte at a time.
 *
 * System calls are synchronous: for a small file they take some microseconds, a hop through the thread pool takes ten times that.
 * Between chunks the event loop runs.
 */
export async function* packTar(entries: Iterable<PackSource>): AsyncGenerator<Buffer, PackCounts, undefined> {
  const packer = new Packer()
  for (const entry of entries) yield* packer.add(entry)
  yield packer.end()
  return packer.counts
}

class Packer {
  readonly counts: PackCounts = { files: 0, bytes: 0 }
  /** First path of every inode that has several names. */
  readonly #links = new Map<string, string>()
  #buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES)
  #fill = 0;

  *add({ source, path }: PackSource): Generator<Buffer, void, undefined> {
    const stats = unlessGone(() => lstatSync(systemPath(source)))
    if (stats === null) return
    if (stats.isDirectory()) yield* this.#header(directoryEntry(path, stats))
    else if (stats.isSymbolicLink()) yield* this.#symlink(source, path, stats)
    else if (stats.isFile()) yield* this.#file(source, path, stats)
  }

  /** The two empty blocks that end an archive, behind what is still in the buffer. */
  end(): Buffer {
    const tail = Buffer.alloc(2 * BLOCK_BYTES)
    return Buffer.concat([this.#buffer.subarray(0, this.#fill), tail])
  }

  *#symlink(source: BytePath, path: BytePath, stats: Stats): Generator<Buffer, void, undefined> {
    const target = unlessGone(() => readlinkSync(systemPath(source), 'buffer'))
    if (target === null) return
    yield* this.#header({ ...entryOf(path, stats), type: TYPE.symlink, linkName: fromBuffer(target) })
  }

  *#file(source: BytePath, path: BytePath, stats: Stats): Generator<Buffer, void, undefined> {
    const key = stats.nlink > 1 ? `${stats.dev}:${stats.ino}` : null
    const first = key === null ? undefined : this.#links.get(key)
    if (first !== undefined) {
      yield* this.#header({ ...entryOf(path, stats), type: TYPE.hardLink, linkName: first })
      return
    }
    const file = unlessGone(() =>
      openSync(systemPath(source), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK),
    )
    if (file === null) return
    try {
      // Only the open file is certain to be the one whose size the header names.
      const opened = fstatSync(file)
      if (!opened.isFile()) return
      yield* this.#header({ ...entryOf(path, opened), type: TYPE.file, sizeBytes: opened.size })
      yield* this.#content(file, opened.size, source)
    } finally {
      closeSync(file)
    }
    if (key !== null) this.#links.set(key, path)
    this.counts.files++
  }

  *#content(file: number, sizeBytes: number, source: BytePath): Generator<Buffer, void, undefined> {
    let left = sizeBytes
    while (left > 0) {
      if (this.#fill === CHUNK_BYTES) yield this.#take()
      const wanted = Math.min(left, CHUNK_BYTES - this.#fill)
      const read = readSync(file, this.#buffer, this.#fill, wanted, null)
      if (read === 0) throw shrunk(source)
      this.#fill += read
      left -= read
    }
    this.counts.bytes += sizeBytes
    if (this.counts.bytes > LIMITS.archiveBytes) throw tooLarge()
    const padding = paddingOf(sizeBytes)
    if (this.#fill + padding > CHUNK_BYTES) yield this.#take()
    this.#buffer.fill(0, this.#fill, this.#fill + padding)
    this.#fill += padding
  }

  *#header(entry: TarEntry): Generator<Buffer, void, undefined> {
    if (entry.path.length > LIMITS.archivePathBytes) throw pathTooLong(entry.path)
    if (CHUNK_BYTES - this.#fill < HEADER_LIMIT_BYTES) yield this.#take()
    this.#fill = encodeHeader(entry, this.#buffer, this.#fill)
  }

  /** The receiver may still hold the chunk while the next one is filled, so each has its own memory. */
  #take(): Buffer {
    const chunk = this.#buffer.subarray(0, this.#fill)
    this.#buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES)
    this.#fill = 0
    return chunk
  }
}

const entryOf = (path: BytePath, stats: Stats): Omit<TarEntry, 'type'> => ({
  path,
  mode: stats.mode,
  mtimeSeconds: Math.floor(stats.mtimeMs / 1000),
  sizeBytes: 0,
  linkName: '',
})

const directoryEntry = (path: BytePath, stats: Stats): TarEntry => ({ ...entryOf(path, stats), type: TYPE.directory })

/** Null for what vanished between being listed and being read, as tar does. */
const unlessGone = <T>(read: () => T): T | null => {
  try {
    return read()
  } catch (error) {
    const { code, path, syscall } = error as NodeJS.ErrnoException
    // ELOOP: a file became a symlink meanwhile.
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ELOOP') return null
    throw new PyroError(
      'path.unreadable',
      `${path ?? 'a file'} cannot be read (${code}, ${syscall}); nothing was changed`,
      {
        data: { path: path ?? null },
        cause: error,
      },
    )
  }
}

const shrunk = (source: BytePath): PyroError =>
  new PyroError('path.unreadable', `${shownPath(source)} became shorter while it was read; nothing was changed`, {
    hint: 'try again when nothing writes to it',
    data: { path: shownPath(source) },
  })

const tooLarge = (): PyroError =>
  new PyroError('archive.too-large', `the files hold more than ${LIMITS.archiveBytes} bytes; nothing was changed`, {
    hint: 'leave out what is not needed, e.g. with --seed-git',
    data: { limitBytes: LIMITS.archiveBytes },
  })

const pathTooLong = (path: string): PyroError =>
  new PyroError('archive.too-large', `a path is longer than ${LIMITS.archivePathBytes} bytes; nothing was changed`, {
    data: { path: shownPath(path.slice(0, 256)), limitBytes: LIMITS.archivePathBytes },
  })
