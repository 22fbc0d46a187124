import { relative } from 'node:path'
import { gitTopLevel, patchPlace, realFolder } from '@pyro/sdk'
import { commandText } from '../render/workspace.ts'

/** A patch, as `patchPlace` takes it. */
export type Patch = Parameters<typeof patchPlace>[0]

/** The folder we are in, when it lies in a git work tree. */
export const gitFolder = (): GitFolder | null => {
  const folder = realFolder('.')
  const top = folder === null ? null : gitTopLevel(folder)
  return folder === null || top === null ? null : { folder, top }
}

interface GitFolder {
  readonly folder: string
  /** Of the work tree. */
  readonly top: string
}

/**
 * `git apply` counts paths from the top of the work tree and, in a folder below it, skips without a word and without a failure what lies
 * elsewhere. Says what to do where a plain `git apply` would miss the files of a patch; null where it does not.
 */
export const handBackHint = ({ folder, top }: GitFolder, patch: Patch): string | null => {
  if (relative('/workspace', patch.root).startsWith('..')) return null
  const place = patchPlace(patch)
  if (place?.top === top) {
    const { directory } = place
    if (directory === '' && folder === top) return null
    const command = ['git', '-C', top, 'apply', '--3way', ...(directory === '' ? [] : [`--directory=${directory}`])]
    return `git apply in this folder would miss the files; this finds them: ${commandText(command)}`
  }
  if (folder === top) return null
  const here = relative(top, folder)
  return `git apply counts paths from ${top} and skips without a word what is not in ${here}/: run it there, or say ${commandText([`--directory=${here}`])}`
}
