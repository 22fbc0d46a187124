import { existsSync, realpathSync, statSync } from 'node:fs'
import { dirname, isAbsolute, join, relative } from 'node:path'

/** Where a seed lands. */
const SEEDED = '/workspace'

/** The top level of the git work tree that holds a folder, found as git finds it: the nearest `.git` upwards. */
export const gitTopLevel = (folder: string): string | null => {
  for (let top = folder; ; top = dirname(top)) {
    if (existsSync(join(top, '.git'))) return top
    if (dirname(top) === top) return null
  }
}

/** A folder of a git work tree on this host. */
export interface PatchPlace {
  readonly top: string
  /** Below the top, as `git apply --directory` takes it; empty for the top itself. */
  readonly directory: string
}

/**
 * What the paths of a patch are relative to on this host. `source` is where the workspace was seeded from, `root` the folder inside
 * that was compared. Null: it belongs to no work tree here.
 */
export const patchPlace = ({ source, root }: { source: string | null; root: string }): PatchPlace | null => {
  const below = relative(SEEDED, root)
  if (below === '..' || below.startsWith('../') || source === null || !isAbsolute(source)) return null
  const seeded = realFolder(source)
  const top = seeded === null ? null : gitTopLevel(seeded)
  return seeded === null || top === null ? null : { top, directory: relative(top, join(seeded, below)) }
}

/** Null for what is none, or cannot be looked at. */
export const realFolder = (path: string): string | null => {
  try {
    return statSync(path).isDirectory() ? realpathSync(path) : null
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === undefined) throw error
    return null
  }
}
