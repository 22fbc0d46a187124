import { lstatSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { isPyroError, PyroError } from '@pyro/protocol/client'

const NOTHING_WRITTEN = 'nothing was written'

export const pathExists = (target: string): PyroError =>
  new PyroError('path.exists', `${target} exists already; nothing was written`, {
    hint: 'choose another --output, or --force to overwrite what the export brings',
    data: { path: target },
  })

/** What a failed write to this host means, and what it left: by default nothing is half-made. */
export const writeError = (target: string, cause: unknown, outcome = NOTHING_WRITTEN): PyroError => {
  if (isPyroError(cause)) return cause
  const code = String((cause as NodeJS.ErrnoException).code)
  const options = { data: { path: target }, cause }
  switch (code) {
    case 'EEXIST':
    case 'ENOTEMPTY':
      return pathExists(target)
    case 'ENOSPC':
    case 'EDQUOT':
      return new PyroError('disk.full', `no space left on this host for ${target}; ${outcome}`, {
        ...options,
        hint: 'free space on this host, or write to another place',
      })
    case 'ENAMETOOLONG':
      return new PyroError('path.unwritable', `${target} is too long a path for this host; ${outcome}`, {
        ...options,
        hint: 'choose a shorter path',
      })
    case 'EACCES':
    case 'EPERM':
      return new PyroError('path.unwritable', `${target} cannot be written (${code}); ${outcome}`, options)
    default:
      return new PyroError('path.unwritable', `${target} cannot be written (${code}); ${outcome}`, {
        ...options,
        hint: 'write to another place',
      })
  }
}

export const guarded = <T>(target: string, action: () => T): T => {
  try {
    return action()
  } catch (error) {
    throw writeError(target, error)
  }
}

/** The folder of what is to be written must be there. */
export const checkParent = (target: string): void => {
  const folder = dirname(target)
  const parent = guarded(target, () => statSync(folder, { throwIfNoEntry: false }))
  if (parent?.isDirectory() === true) return
  throw new PyroError('path.not-found', `the folder ${folder} does not exist; nothing was written`, {
    hint: `mkdir -p ${folder}`,
    data: { path: folder },
  })
}

/** Only files, links and folders are replaced, whatever was asked for: with a device or pipe more would go than its content. */
export const refuseSpecial = (path: string | Buffer, shown = path.toString()): void => {
  const there = lstatSync(path, { throwIfNoEntry: false })
  if (there === undefined || there.isFile() || there.isSymbolicLink() || there.isDirectory()) return
  const kind = there.isFIFO() ? 'pipe' : there.isSocket() ? 'socket' : 'device'
  throw new PyroError('path.not-a-file', `${shown} is a ${kind}, which is not replaced; nothing was written`, {
    hint: 'choose another --output; --output - writes to standard output',
    data: { path: shown },
  })
}
