import { accessSync, closeSync, constants, openSync, readSync, realpathSync, statSync, type Stats } from 'node:fs'
import { resolve } from 'node:path'
import { PyroError } from '@pyro/protocol/client'
import type { InputOf } from '@pyro/protocol'
import type { ByteSource } from '../transport/upload.ts'
import { listTree, type Skipped } from './tree.ts'
import { fromBuffer, type BytePath } from './path-bytes.ts'
import { packTar } from './tar/pack.ts'

/** Bytes read of an archive at a time. */
const READ_BYTES = 1024 * 1024
const ARCHIVE_NAME = /\.(tar|tar\.gz|tgz|tar\.zst|tzst)$/

/**
 * Host files for a workspace. `path`: a folder as it is, `.git` and all, or a `.tar`, `.tar.gz`, `.tar.zst`. `git`: what
 * `git ls-files --cached --others --exclude-standard` names in that folder, as the work tree has it, with the files of submodules, without
 * `.git`. Paths inside begin at the folder, also where it lies below the top of the work tree.
 */
export type Seed = { readonly path: string } | { readonly git: string }

type SeedInput = NonNullable<InputOf<'workspace.create'>['seed']>

export interface SeedPlan {
  readonly input: SeedInput
  /** The archive from its beginning, each time it is called. */
  readonly open: () => ByteSource
}

export interface SeedOptions {
  /** Called for what the archive cannot hold, e.g. a socket. */
  readonly onSkipped?: ((path: string, reason: string) => void) | undefined
}

/**
 * Looks at the files of a seed before anything is sent.
 *
 * @throws PyroError `path.not-found`, `path.unreadable`, `path.not-a-file`, `archive.unsafe-entry`, `archive.too-large`
 */
export const planSeed = async (seed: Seed, options: SeedOptions = {}): Promise<SeedPlan> => {
  if ('git' in seed) return planGit(seed.git, options)
  const stats = statOf(seed.path)
  if (stats.isDirectory()) return planFolder(seed.path, options)
  if (stats.isFile()) return planArchive(seed.path)
  throw new PyroError(
    'path.not-a-file',
    `${seed.path} is a ${kindOf(stats)}, neither a folder nor an archive; nothing was changed`,
    {
      hint: 'name a folder, a .tar, a .tar.gz or a .tar.zst',
      data: { path: seed.path },
    },
  )
}

const counts = { modified: null, untracked: null, ignored: null }

const planFolder = (path: string, options: SeedOptions): SeedPlan => {
  const entries = listTree(realFolder(path), reporter(options))
  return { input: { mode: 'path', source: resolve(path), ...counts }, open: () => packTar(entries) }
}

const planArchive = (path: string): SeedPlan => {
  if (!ARCHIVE_NAME.test(path)) {
    throw new PyroError(
      'path.not-a-file',
      `${path} is a file, but not named .tar, .tar.gz or .tar.zst; nothing was changed`,
      {
        hint: 'name a folder or an archive; one file goes in with: pyro workspace file write WS PATH --file FILE',
        data: { path },
      },
    )
  }
  checkReadable(path)
  return { input: { mode: 'path', source: resolve(path), ...counts }, open: () => readChunks(path) }
}

const planGit = async (path: string, options: SeedOptions): Promise<SeedPlan> => {
  const stats = statOf(path)
  if (!stats.isDirectory()) {
    throw new PyroError('path.not-a-file', `${path} is not the folder of a git work tree; nothing was changed`, {
      hint: 'use --seed-path for an archive',
      data: { path },
    })
  }
  const { listWorkTree } = await import('./git.ts')
  const tree = await listWorkTree(realFolder(path), reporter(options))
  return { input: { mode: 'git', source: resolve(path), ...tree.counts }, open: () => packTar(tree.entries) }
}

const reporter =
  ({ onSkipped }: SeedOptions) =>
  (entry: Skipped): void =>
    onSkipped?.(entry.path, entry.reason)

/** Asked for as bytes: the folder we are in may have a name that is no text. */
const realFolder = (path: string): BytePath => {
  try {
    return fromBuffer(realpathSync.native(path, 'buffer'))
  } catch (error) {
    throw hostPathError(path, error)
  }
}

/** The content of a file, a megabyte at a time. */
export function* readChunks(path: string): Generator<Buffer, void, undefined> {
  const file = openSync(path, 'r')
  try {
    for (;;) {
      const chunk = Buffer.allocUnsafeSlow(READ_BYTES)
      const read = readSync(file, chunk, 0, READ_BYTES, null)
      if (read === 0) return
      yield chunk.subarray(0, read)
    }
  } finally {
    closeSync(file)
  }
}

/** @throws PyroError `path.not-found`, `path.unreadable` */
export const statOf = (path: string): Stats => {
  try {
    return statSync(path)
  } catch (error) {
    throw hostPathError(path, error)
  }
}

export const checkReadable = (path: string): void => {
  try {
    accessSync(path, constants.R_OK)
  } catch (error) {
    throw hostPathError(path, error)
  }
}

export const hostPathError = (path: string, cause: unknown): PyroError => {
  const code = String((cause as NodeJS.ErrnoException).code)
  if (code === 'ENOENT' || code === 'ENOTDIR') {
    return new PyroError('path.not-found', `${path} does not exist on this host; nothing was changed`, {
      data: { path },
      cause,
    })
  }
  return new PyroError('path.unreadable', `${path} cannot be read (${code}); nothing was changed`, {
    data: { path },
    cause,
  })
}

export const kindOf = (stats: Stats): string => {
  if (stats.isSocket()) return 'socket'
  if (stats.isFIFO()) return 'named pipe'
  if (stats.isBlockDevice()) return 'block device'
  if (stats.isCharacterDevice()) return 'character device'
  return stats.isDirectory() ? 'folder' : 'file'
}
