import { DatabaseSync } from 'node:sqlite'
import { makeDatabasePrivate } from './private-file.ts'

/** SQLITE_BUSY */
const BUSY = 5

/** Holds the home for one engine until it is closed or the process ends, however that happens. */
export interface HomeLock {
  release(): void
}

/**
 * Takes the lock of a home; null when another engine has it. The kernel's file lock behind an exclusive transaction of a
 * database that holds nothing: released by the kernel with the process.
 */
export const lockHome = (path: string): HomeLock | null => {
  // Who can read it can hold it, too.
  makeDatabasePrivate(path)
  const db = new DatabaseSync(path)
  try {
    db.exec('PRAGMA busy_timeout = 0; BEGIN EXCLUSIVE')
  } catch (error) {
    db.close()
    if ((error as { errcode?: number }).errcode === BUSY) return null
    throw error
  }
  return { release: () => db.close() }
}
