import {
  chmodSync,
  closeSync,
  constants,
  fchmodSync,
  futimesSync,
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { LIMITS, PyroError } from '@pyro/protocol/client'
import { writeAll } from './write-all.ts'
import { bytePath, joinBytes, shownPath, systemPath, type BytePath } from './path-bytes.ts'
import { TYPE } from './tar/header.ts'
import type { UnpackedEntry, UnpackHandler } from './tar/unpack.ts'
import { pathExists, refuseSpecial, writeError } from './write-error.ts'

/** How names of what is not whole yet begin. Short: with the name of the target in it they could be too long for the filesystem. */
export const UNFINISHED = '.pyro-export-'
/** What a Date can hold, which is more than most filesystems can. */
const TIME_LIMIT_S = 8.64e12
/** PATH_MAX without its final NUL: the system takes no longer path at a time. */
const PATH_LIMIT_BYTES = 4095
/** Of a path that is too long, this many characters of each end are shown. */
const SHOWN_END_CHARACTERS = 60

interface Placed {
  /** Relative to the exported file or folder; empty for itself. */
  readonly path: BytePath
  readonly folder: boolean
  readonly mode: number
  readonly mtimeSeconds: number
}

/**
 * An export on its way: everything is written into a private folder beside the target, and only moved when it is whole.
 *
 * The archive comes from a sandbox and is taken for hostile: an entry must lie below the first one, its parent must be a folder this
 * archive made, and no symlink, its own included, is ever followed.
 */
export class Staging implements UnpackHandler {
  readonly #folder: BytePath
  readonly #target: string
  /** What the first entry is called; all others lie below it. */
  #name: string | null = null
  readonly #placed: Placed[] = []
  readonly #folders = new Set<string>()
  #open: { readonly file: number; readonly entry: UnpackedEntry } | null = null

  private constructor(target: string, folder: string) {
    this.#target = target
    this.#folder = bytePath(folder)
  }

  static open(target: string): Staging {
    try {
      return new Staging(target, mkdtempSync(join(dirname(target), UNFINISHED)))
    } catch (error) {
      throw writeError(target, error)
    }
  }

  entry = (entry: UnpackedEntry): void => {
    try {
      this.#write(entry)
    } catch (error) {
      throw (error as NodeJS.ErrnoException).code === 'ENAMETOOLONG'
        ? tooLong(entry.path)
        : writeError(this.#target, error)
    }
  }

  content = (bytes: Uint8Array): void => {
    const open = this.#open
    if (open !== null) this.#guard(() => writeAll(open.file, bytes))
  }

  end = (): void => {
    const open = this.#open
    this.#open = null
    if (open === null) return
    this.#guard(() => {
      fchmodSync(open.file, open.entry.mode & 0o777)
      const time = timeOf(open.entry)
      futimesSync(open.file, time, time)
      closeSync(open.file)
    })
  }

  /** Moves what was staged to the target: all of it, or with an error nothing of it. */
  place(target: string, force: boolean): void {
    const [first] = this.#placed
    if (first === undefined) throw new PyroError('archive.truncated', 'the export holds nothing; nothing was written')
    this.#guard(() => {
      if (force) this.#merge(bytePath(target))
      else if (first.folder) {
        // Fails where the name is taken; a rename then replaces the empty folder.
        mkdirSync(target, 0o700)
        renameSync(systemPath(this.#pathOf(first.path)), target)
      } else linkSync(systemPath(this.#pathOf(first.path)), target)
      this.#finishFolders(bytePath(target))
    })
  }

  discard(): void {
    if (this.#open !== null) closeSync(this.#open.file)
    this.#open = null
    rmSync(systemPath(this.#folder), { recursive: true, force: true })
  }

  #write(entry: UnpackedEntry): void {
    const path = this.#relative(entry.path)
    if (this.#placed.length >= LIMITS.archiveEntries) throw tooMany()
    const staged = this.#pathOf(path)
    // Both, so that what could be staged can be placed, too.
    const longest = Math.max(staged.length, below(bytePath(this.#target), path).length)
    if (longest > PATH_LIMIT_BYTES) throw tooLong(entry.path)
    const full = systemPath(staged)
    switch (entry.type) {
      case TYPE.directory:
        mkdirSync(full, 0o700)
        this.#folders.add(path)
        break
      case TYPE.file:
        this.#open = { entry, file: openSync(full, NEW_FILE, 0o600) }
        break
      case TYPE.symlink:
        symlinkSync(systemPath(entry.linkName as BytePath), full)
        lutimesSync(full, timeOf(entry), timeOf(entry))
        break
      case TYPE.hardLink:
        this.#link(entry, full)
        break
      default:
        throw unsafe(entry.path, 'is neither a file, a folder nor a link')
    }
    this.#placed.push({
      path,
      folder: entry.type === TYPE.directory,
      mode: entry.mode & 0o777,
      mtimeSeconds: entry.mtimeSeconds,
    })
  }

  /** Hard links only between files of this archive. */
  #link(entry: UnpackedEntry, full: string | Buffer): void {
    const target = systemPath(this.#pathOf(this.#relative(entry.linkName)))
    if (lstatSync(target, { throwIfNoEntry: false })?.isFile() !== true)
      throw unsafe(entry.path, 'links to no file of the export')
    linkSync(target, full)
  }

  /** The path below the first entry, when it is safe. */
  #relative(path: string): BytePath {
    const [name = '', ...parts] = path.split('/')
    const unsound = [name, ...parts].some((part) => part === '' || part === '.' || part === '..' || part.includes('\0'))
    if (unsound) throw unsafe(path, 'is no safe path')
    this.#name ??= name
    if (name !== this.#name) throw unsafe(path, 'lies outside of what was asked for')
    const relative = parts.join('/') as BytePath
    const parent = parts.slice(0, -1).join('/')
    if (parts.length > 0 && !this.#folders.has(parent)) throw unsafe(path, 'lies in no folder of the export')
    return relative
  }

  #pathOf(relative: BytePath): BytePath {
    return below(joinBytes(this.#folder, 'out'), relative)
  }

  /** With `--force`: conflicts are looked for first, so that nothing is moved when something cannot be. */
  #merge(target: BytePath): void {
    for (const { path, folder } of this.#placed) {
      const place = below(target, path)
      refuseSpecial(systemPath(place), shownPath(place))
      const there = lstatSync(systemPath(place), { throwIfNoEntry: false })
      if (there !== undefined && there.isDirectory() !== folder) throw conflict(place, folder)
    }
    for (const { path, folder } of this.#placed) {
      const place = systemPath(below(target, path))
      if (!folder) renameSync(systemPath(this.#pathOf(path)), place)
      else if (lstatSync(place, { throwIfNoEntry: false }) === undefined) mkdirSync(place, 0o700)
    }
  }

  /** Last, and from the inside out: a folder that may not be written can still be filled, and keeps its time. */
  #finishFolders(target: BytePath): void {
    for (const entry of this.#placed.toReversed()) {
      if (!entry.folder) continue
      const place = systemPath(below(target, entry.path))
      chmodSync(place, entry.mode)
      utimesSync(place, timeOf(entry), timeOf(entry))
    }
  }

  #guard(action: () => void): void {
    try {
      action()
    } catch (error) {
      throw writeError(this.#target, error)
    }
  }
}

const NEW_FILE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW

/** What `node:fs` takes: of a number below 0 it would make the present. */
const timeOf = ({ mtimeSeconds }: { readonly mtimeSeconds: number }): number | Date =>
  mtimeSeconds < 0 ? new Date(Math.max(mtimeSeconds, -TIME_LIMIT_S) * 1000) : Math.min(mtimeSeconds, TIME_LIMIT_S)

const below = (folder: BytePath, path: BytePath): BytePath => (path === '' ? folder : joinBytes(folder, path))

const unsafe = (path: string, what: string): PyroError =>
  new PyroError('archive.unsafe-entry', `${shownPath(path)} ${what}; nothing was written`, {
    data: { path: shownPath(path) },
  })

const conflict = (path: BytePath, folder: boolean): PyroError =>
  folder
    ? new PyroError(
        'path.exists',
        `${shownPath(path)} is no folder, but the export has one there; nothing was written`,
        {
          hint: 'remove it first, or choose another --output',
          data: { path: shownPath(path) },
        },
      )
    : pathExists(shownPath(path))

const tooMany = (): PyroError =>
  new PyroError('archive.too-large', `the export has more than ${LIMITS.archiveEntries} entries; nothing was written`)

const tooLong = (path: string): PyroError => {
  const shown = shownPath(path)
  const [start, end] = [shown.slice(0, SHOWN_END_CHARACTERS), shown.slice(-SHOWN_END_CHARACTERS)]
  const named = shown.length > 2 * SHOWN_END_CHARACTERS ? `${start}…${end}` : shown
  return new PyroError('path.unwritable', `${named} has too long a path for this host; nothing was written`, {
    hint: '--format tar writes an archive that can hold it',
    data: { path: shown },
  })
}
