import { chmodSync, closeSync, openSync, statSync } from 'node:fs'

const OTHERS = 0o077
const OWNER = 0o7700
/** SQLite gives the files beside a database the mode of the database. */
const BESIDE = ['', '-journal', '-wal', '-shm']

/** Takes from others what they may do with a file or folder of ours; nothing happens where there is none. */
export const closeToOthers = (path: string): void => {
  const mode = statSync(path, { throwIfNoEntry: false })?.mode ?? 0
  if ((mode & OTHERS) !== 0) chmodSync(path, mode & OWNER)
}

/** Before SQLite opens it: a new one is private from its first byte, one of an earlier engine from now on. */
export const makeDatabasePrivate = (path: string): void => {
  closeSync(openSync(path, 'a', 0o600))
  for (const ending of BESIDE) closeToOthers(path + ending)
}
