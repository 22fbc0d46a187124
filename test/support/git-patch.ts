import { execFileSync, spawnSync } from 'node:child_process'
import type { Diff } from '@pyro/sdk'
import type { Listing } from './lister.ts'

export interface Applied {
  readonly code: number
  readonly stderr: string
}

/** Lets the host's git apply a patch to a folder. */
export const applyPatch = (folder: string, patch: Uint8Array, ...options: string[]): Applied => {
  const settings = ['-c', 'core.quotePath=false', '-c', 'user.name=t', '-c', 'user.email=t@example.org']
  const result = spawnSync('git', [...settings, 'apply', '--whitespace=nowarn', '--allow-empty', ...options, '-'], {
    cwd: folder,
    input: patch,
    maxBuffer: 64 * 1024 * 1024,
    env: {
      ...process.env,
      GIT_CONFIG_GLOBAL: '/dev/null',
      GIT_CEILING_DIRECTORIES: folder.slice(0, folder.lastIndexOf('/')),
    },
  })
  if (result.error !== undefined) throw result.error
  return { code: result.status ?? -1, stderr: result.stderr.toString() }
}

/** A copy with all that a filesystem keeps. */
export const copyTree = (from: string, to: string): void => void execFileSync('cp', ['--archive', from, to])

/**
 * What a tree is to somebody who compares it: everything but times, sizes of folders and which names are one file. Ids begin at
 * `idBase`.
 */
export const comparable = (listing: Listing, idBase = 0): Listing =>
  new Map(
    [...listing]
      .filter(([path]) => path !== '')
      .map(([path, line]) => [
        path,
        line
          .replace(
            / (\d+):(\d+) /,
            (_, uid: string, gid: string) => ` ${Number(uid) - idBase}:${Number(gid) - idBase} `,
          )
          .replace(/ size=\d+ mtime=[\d.-]+/, '')
          .replace(/ links=\d+/, '')
          .replace(/ same-as=.* blocks=/s, ' blocks=')
          .replace(/ blocks=\d+/, ''),
      ]),
  )

/** Paths, as bytes in latin1, that the entries of a diff say the patch does not carry. */
export const notInPatch = ({ result }: Diff): ReadonlySet<string> =>
  new Set(
    result.entries
      .filter(({ inPatch }) => !inPatch)
      .map(({ path, pathBase64 }) =>
        Buffer.from(pathBase64 ?? path, pathBase64 === undefined ? 'utf8' : 'base64').toString('latin1'),
      ),
  )

/** Paths at which two trees differ although nobody said so. */
export const unexplained = (wanted: Listing, got: Listing, explained: ReadonlySet<string>): readonly string[] => {
  const lines: string[] = []
  for (const path of new Set([...wanted.keys(), ...got.keys()])) {
    if (wanted.get(path) !== got.get(path) && !explained.has(path)) {
      lines.push(`${path}: wanted ${wanted.get(path) ?? 'nothing'}, got ${got.get(path) ?? 'nothing'}`)
    }
  }
  return lines.sort()
}
