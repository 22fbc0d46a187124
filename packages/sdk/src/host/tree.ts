import { accessSync, constants, readdirSync, type Dirent, type Stats } from 'node:fs'
import { LIMITS, PyroError } from '@pyro/protocol/client'
import { joinBytes, shownPath, systemPath, type BytePath } from './path-bytes.ts'
import type { PackSource } from './tar/pack.ts'

export interface Skipped {
  readonly path: string
  readonly reason: string
}

/**
 * Every entry below a folder, listed before anything is sent: what cannot be read or packed is an error now. What a folder holds follows
 * right behind it, so that a receiver can give it its time when it leaves it.
 *
 * @throws PyroError `path.unreadable`, `archive.unsafe-entry` for devices and pipes, `archive.too-large`
 */
export const listTree = (root: BytePath, skipped: (entry: Skipped) => void): PackSource[] => {
  const entries: PackSource[] = []
  // Root can read everything; others find out now rather than in the middle of the archive.
  const mayBeUnreadable = process.getuid?.() !== 0
  const list = (folder: PackSource): void => {
    for (const dirent of readFolder(folder.source)) {
      const entry = { source: joinBytes(folder.source, dirent.name), path: joinBytes(folder.path, dirent.name) }
      if (dirent.isSocket()) {
        skipped(skippedSocket(entry.path))
        continue
      }
      if (!dirent.isFile() && !dirent.isSymbolicLink() && !dirent.isDirectory())
        throw specialFile(entry.path, dirent, 'leave it out, or use --seed-git')
      if (mayBeUnreadable && dirent.isFile()) checkReadable(entry.source)
      entries.push(entry)
      if (entries.length > LIMITS.archiveEntries) throw tooMany()
      if (dirent.isDirectory()) list(entry)
    }
  }
  list({ source: root, path: '' as BytePath })
  return entries
}

const readFolder = (folder: BytePath): Dirent[] => {
  try {
    return readdirSync(systemPath(folder), { withFileTypes: true, encoding: 'latin1' })
  } catch (error) {
    throw unreadable(folder, error)
  }
}

const checkReadable = (path: BytePath): void => {
  try {
    accessSync(systemPath(path), constants.R_OK)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw unreadable(path, error)
  }
}

const unreadable = (path: BytePath, cause: unknown): PyroError => {
  const code = String((cause as NodeJS.ErrnoException).code)
  return new PyroError('path.unreadable', `${shownPath(path)} cannot be read (${code}); nothing was changed`, {
    hint: 'leave it out, or make it readable',
    data: { path: shownPath(path) },
    cause,
  })
}

export const skippedSocket = (path: BytePath): Skipped => ({
  path: shownPath(path),
  reason: 'a socket lives with its process',
})

export const specialFile = (path: BytePath, entry: Dirent | Stats, hint: string): PyroError =>
  new PyroError(
    'archive.unsafe-entry',
    `${shownPath(path)} is a ${entry.isFIFO() ? 'named pipe' : 'device'}, which no archive may hold; nothing was changed`,
    { hint, data: { path: shownPath(path) } },
  )

const tooMany = (): PyroError =>
  new PyroError('archive.too-large', `more than ${LIMITS.archiveEntries} entries; nothing was changed`, {
    hint: 'leave out what is not needed, e.g. with --seed-git',
    data: { limitEntries: LIMITS.archiveEntries },
  })
