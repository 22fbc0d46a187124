// Looks at the host without changing it.
import { accessSync, constants, readFileSync, statSync } from 'node:fs'
import { delimiter, join } from 'node:path'

/** Where Debian puts tools that a plain user's PATH may not name. */
const SYSTEM_FOLDERS = ['/usr/local/sbin', '/usr/sbin', '/sbin', '/usr/local/bin', '/usr/bin', '/bin']

/**
 * The full path of a program, or null.
 * @param {string} name
 * @param {string[]} [more] further folders to look into, after PATH
 */
export function findProgram(name, more = []) {
  for (const folder of [...(process.env.PATH ?? '').split(delimiter), ...SYSTEM_FOLDERS, ...more]) {
    if (folder === '') continue
    const path = join(folder, name)
    try {
      accessSync(path, constants.X_OK)
      if (statSync(path).isFile()) return path
    } catch (error) {
      if (!isAbsent(error)) throw error
    }
  }
  return null
}

/** @param {unknown} error */
export function isAbsent(error) {
  const code = /** @type {NodeJS.ErrnoException} */ (error).code
  return code === 'ENOENT' || code === 'ENOTDIR' || code === 'EACCES'
}

/**
 * A file's text, or null when there is none.
 * @param {string} path
 */
export function readText(path) {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (isAbsent(error)) return null
    throw error
  }
}

/** @returns {{ id: string, codename: string, prettyName: string }} */
export function distribution() {
  /** @type {Record<string, string>} */
  const fields = {}
  for (const line of (readText('/etc/os-release') ?? '').split('\n')) {
    const match = /^([A-Z_]+)="?([^"]*)"?$/.exec(line)
    if (match) fields[match[1] ?? ''] = match[2] ?? ''
  }
  return {
    id: fields.ID ?? 'unknown',
    codename: fields.VERSION_CODENAME ?? '',
    prettyName: fields.PRETTY_NAME ?? 'an unknown distribution',
  }
}

export function isRoot() {
  return process.geteuid?.() === 0
}
