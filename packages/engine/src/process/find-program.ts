import { access, constants } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoOf } from './identity.ts'

/** Those of root: an engine may have been started by somebody who has no sbin in PATH. */
export const STANDARD_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

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
