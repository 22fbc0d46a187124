import { randomUUID } from 'node:crypto'
import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fsyncSync,
  lstatSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  type Stats,
} from 'node:fs'
import { Socket } from 'node:net'
import { dirname, join } from 'node:path'
import { addAbortSignal, finished } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { PyroError } from '@pyro/protocol/client'
import { UNFINISHED } from './staging.ts'
import { writeAll } from './write-all.ts'
import { checkParent, guarded, writeError } from './write-error.ts'

/** How often a pipe is looked at that nobody reads yet. */
const READER_POLL_MS = 50
const NEW_FILE_MODE = 0o666
const NOT_WHOLE = 'what was written is not whole'
/** Where the folder or the file itself allows no replacement, its content is written over. */
const NOT_REPLACEABLE: ReadonlySet<string> = new Set(['EACCES', 'EPERM', 'EROFS', 'EBUSY'])

/**
 * Writes a file that the user named on their own host, as `>` would, except that a regular file is replaced by the whole content or
 * left alone. Links, pipes and devices are written through; a pipe waits for its reader until `signal` fires.
 *
 * @throws PyroError `path.not-found`, `path.not-a-file`, `path.unwritable`, `disk.full`, `request.cancelled`
 */
export const writeOutputFile = async (path: string, bytes: Uint8Array, signal: AbortSignal): Promise<void> => {
  checkParent(path)
  const there = guarded(path, () => lstatSync(path, { throwIfNoEntry: false }))
  if (there?.isDirectory() === true) throw folder(path)
  if (there === undefined || there.isFile()) return replace(path, bytes, there)
  const target = guarded(path, () => statSync(path, { throwIfNoEntry: false }))
  if (target?.isDirectory() === true) throw folder(path)
  if (target?.isFIFO() === true) return writePipe(path, bytes, signal)
  writeThrough(path, bytes)
}

const replace = (path: string, bytes: Uint8Array, before: Stats | undefined): void => {
  const temporary = join(dirname(path), `${UNFINISHED}${randomUUID()}`)
  try {
    const file = openSync(temporary, 'wx', NEW_FILE_MODE)
    try {
      writeAll(file, bytes)
      if (before !== undefined) keepOwner(file, before)
      fsyncSync(file)
    } finally {
      closeSync(file)
    }
    renameSync(temporary, path)
  } catch (error) {
    rmSync(temporary, { force: true })
    if (before === undefined || !NOT_REPLACEABLE.has(String((error as NodeJS.ErrnoException).code))) {
      throw writeError(path, error)
    }
    writeThrough(path, bytes)
  }
}

const keepOwner = (file: number, { uid, gid, mode }: Stats): void => {
  fchownSync(file, uid, gid)
  fchmodSync(file, mode & 0o7777)
}

const writeThrough = (path: string, bytes: Uint8Array): void => {
  const file = guarded(path, () =>
    openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_NOCTTY, NEW_FILE_MODE),
  )
  try {
    writeAll(file, bytes)
  } catch (error) {
    throw writeError(path, error, NOT_WHOLE)
  } finally {
    closeSync(file)
  }
}

const writePipe = async (path: string, bytes: Uint8Array, signal: AbortSignal): Promise<void> => {
  const file = await openPipe(path, signal)
  const pipe = new Socket({ fd: file, readable: false, writable: true })
  addAbortSignal(signal, pipe)
  const written = Promise.withResolvers<void>()
  finished(pipe, { readable: false }, (error) => (error ? written.reject(error) : written.resolve()))
  pipe.end(bytes)
  try {
    await written.promise
  } catch (error) {
    throw signal.aborted ? cancelled(path, NOT_WHOLE) : writeError(path, error, NOT_WHOLE)
  }
}

/** Opened without waiting: a pipe that nobody reads would hold a plain open, and the process with it. */
const openPipe = async (path: string, signal: AbortSignal): Promise<number> => {
  for (;;) {
    if (signal.aborted) throw cancelled(path, 'nothing was written')
    try {
      return openSync(path, constants.O_WRONLY | constants.O_NONBLOCK)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENXIO') throw writeError(path, error)
    }
    await sleep(READER_POLL_MS)
  }
}

const cancelled = (path: string, outcome: string): PyroError =>
  new PyroError('request.cancelled', `writing ${path} was cancelled by the caller; ${outcome}`)

const folder = (path: string): PyroError =>
  new PyroError('path.not-a-file', `${path} is a folder; nothing was written`, {
    hint: 'name a file in it',
    data: { path },
  })
