import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'

/** The top level of the git work tree that holds a folder, found as git finds it: the nearest `.git` upwards. */
export const gitTopLevel = (folder: string): string | null => {
  for (let at = folder; ; at = dirname(at)) {
    if (existsSync(join(at, '.git'))) return at
    if (dirname(at) === at) return null
  }
}

export const isGitWorkTree = (folder: string): boolean => gitTopLevel(folder) !== null
