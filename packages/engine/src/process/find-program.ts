import { access, constants } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { errnoOf } from './identity.ts'

/** Those of root. */
export const STANDARD_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** The PATH of whoever started the engine, with an sbin for each bin: `su` and the units of users have none. */
export const completePath = (path: string | undefined): string => {
  if (path === undefined || path === '') return STANDARD_PATH
  const folders = path.split(':')
  const sbins = folders.filter((folder) => basename(folder) === 'bin').map((bin) => join(dirname(bin), 'sbin'))
  return [...new Set([...folders, ...sbins])].join(':')
}

/** Absolute path of a program, or null when it is in none of the folders. */
export const findProgram = async (name: string, path: string = STANDARD_PATH): Promise<string | null> => {
  for (const folder of path.split(':')) {
    const candidate = join(folder, name)
    try {
      await access(candidate, constants.X_OK)
      return candidate
    } catch (error) {
      const errno = errnoOf(error)
      if (errno !== 'ENOENT' && errno !== 'EACCES' && errno !== 'ENOTDIR') throw error
    }
  }
  return null
}
