import { closeSync, openSync, unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PyroError } from '@pyro/protocol'
import { errnoOf } from '../process/identity.ts'
import { isHostFull, isUnwritable } from '../store/database.ts'

const FULL: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT'])
/** SQLite asks for 32 KiB beside its file. */
const TRIAL_BYTES = 64 * 1024
const FREE_SPACE = 'free space on the host'
const UNWRITABLE: ReadonlySet<string> = new Set(['EROFS', 'EIO'])

/** What a disk of the host that is full, read-only or broken makes of an operation; null for every other error. */
export const hostFailure = (error: unknown, home: string): PyroError | null => {
  if (isHostFull(error)) return full('the state of Pyro', error)
  const errno = errnoOf(error)
  const path = (error as NodeJS.ErrnoException | null)?.path ?? home
  if (errno !== null && FULL.has(errno)) return full(path, error)
  if (errno !== null && UNWRITABLE.has(errno)) return unwritable(path, errno, error)
  if (!isUnwritable(error)) return null
  const why = whyUnwritable(home)
  return why !== null && FULL.has(why) ? full('the state of Pyro', error) : unwritable(home, why, error)
}

const full = (what: string, cause: unknown): PyroError =>
  new PyroError('disk.full', `the host has no space left for ${what}; nothing was changed`, {
    hint: FREE_SPACE,
    cause,
  })

const unwritable = (path: string, errno: string | null, cause: unknown): PyroError => {
  const why = errno === null ? messageOf(cause) : reasonOf(errno)
  return new PyroError('path.unwritable', `${path} cannot be written: ${why}; nothing was changed`, {
    hint: remedyOf(errno),
    data: { path, errno },
    cause,
  })
}

export const reasonOf = (errno: string): string => {
  if (FULL.has(errno)) return 'no space is left'
  return errno === 'EROFS' ? 'its filesystem is read-only' : errno
}

export const remedyOf = (errno: string | null): string => {
  if (errno !== null && FULL.has(errno)) return FREE_SPACE
  if (errno !== 'EROFS') return 'dmesg may say what is wrong with the disk'
  return 'mount it for writing again (mount -o remount,rw); dmesg may say why it is not'
}

/** Tried with a file without a name, because SQLite keeps the reason to itself. Null when the home can be written. */
export const whyUnwritable = (home: string): string | null => {
  const path = join(home, '.trial')
  let file: number | null = null
  try {
    file = openSync(path, 'w', 0o600)
    unlinkSync(path)
    writeFileSync(file, Buffer.alloc(TRIAL_BYTES))
    return null
  } catch (error) {
    return errnoOf(error)
  } finally {
    if (file !== null) closeSync(file)
  }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))
