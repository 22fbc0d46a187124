import { execFile } from 'node:child_process'
import { lstatSync, type Stats } from 'node:fs'
import { LIMITS, PyroError } from '@pyro/protocol/client'
import { bytePath, fromBuffer, joinBytes, shownPath, systemPath, type BytePath } from './path-bytes.ts'
import type { PackSource } from './tar/pack.ts'

/** Bytes of one listing: 2,000,000 paths of 128 bytes. */
const LISTING_LIMIT_BYTES = 256 * 1024 * 1024
/** How long one git command may take, on a cold and large work tree. */
const GIT_DEADLINE_MS = 120_000
/** Submodules in submodules. */
const NESTING_LIMIT = 32

export interface WorkTree {
  readonly entries: readonly PackSource[]
  readonly counts: {
    /** Tracked files that differ from the last commit. */
    readonly modified: number
    /** New files that no ignore rule names. */
    readonly untracked: number
    /** Ignored files and folders; a folder counts once. */
    readonly ignored: number
  }
}

/**
 * The files of a git work tree as they are now: tracked ones, new unignored ones, those of submodules; no `.git`.
 *
 * @throws PyroError `host.missing-tool` without git, `input.invalid` when the folder is no work tree
 */
export const listWorkTree = async (folder: string): Promise<WorkTree> => {
  const root = bytePath(folder)
  const files: BytePath[] = []
  const untracked = await collect(root, '' as BytePath, files, 0)
  const [status, ignored] = await Promise.all([
    git(root, [
      'status',
      '--porcelain=v2',
      '-z',
      '--untracked-files=no',
      '--no-renames',
      '--ignore-submodules=none',
      '--',
      '.',
    ]),
    git(root, ['ls-files', '-z', '--others', '--ignored', '--exclude-standard', '--directory', '--no-empty-directory']),
  ])
  return {
    entries: withFolders(root, files),
    counts: { modified: names(status).length, untracked, ignored: names(ignored).length },
  }
}

/** Adds the files of one work tree and of those nested in it; returns how many are untracked. */
const collect = async (root: BytePath, below: BytePath, files: BytePath[], depth: number): Promise<number> => {
  if (depth > NESTING_LIMIT) throw new PyroError('limit.exceeded', `work trees nested deeper than ${NESTING_LIMIT}`)
  const folder = below === '' ? root : joinBytes(root, below)
  const [tracked, others] = await Promise.all([
    git(folder, ['ls-files', '-z', '--cached']),
    git(folder, ['ls-files', '-z', '--others', '--exclude-standard']),
  ])
  const untracked = names(others)
  let count = 0
  // An unmerged path is listed once per stage.
  for (const name of new Set([...names(tracked), ...untracked])) {
    const path = joinBytes(below, name.endsWith('/') ? name.slice(0, -1) : name)
    const stats = present(joinBytes(root, path))
    if (stats === null) continue
    if (!stats.isDirectory()) files.push(path)
    // A submodule or another work tree inside this one. Without its own .git (not checked out) it holds nothing.
    else if (present(joinBytes(root, joinBytes(path, '.git'))) !== null)
      count += await collect(root, path, files, depth + 1)
    if (files.length > LIMITS.archiveEntries) throw tooMany()
  }
  return count + untracked.filter((name) => !name.endsWith('/')).length
}

/** Parents first, so that folders keep their mode and mtime. */
const withFolders = (root: BytePath, files: readonly BytePath[]): PackSource[] => {
  const entries: PackSource[] = []
  const seen = new Set<string>([''])
  const addFolder = (folder: string): void => {
    if (seen.has(folder)) return
    addFolder(folder.slice(0, Math.max(0, folder.lastIndexOf('/'))))
    seen.add(folder)
    entries.push({ source: joinBytes(root, folder), path: folder as BytePath })
  }
  for (const path of files) {
    addFolder(path.slice(0, Math.max(0, path.lastIndexOf('/'))))
    entries.push({ source: joinBytes(root, path), path })
  }
  return entries
}

/** Null for a tracked file that was deleted, and for one below a folder that became a file. */
const present = (path: BytePath): Stats | null => {
  try {
    return lstatSync(systemPath(path))
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR') return null
    throw new PyroError('path.unreadable', `${shownPath(path)} cannot be read (${code}); nothing was changed`, {
      cause: error,
    })
  }
}

const names = (output: Buffer): string[] =>
  fromBuffer(output)
    .split('\0')
    .filter((name) => name !== '')

/** Git works on the folder it is given: variables of a hook that runs us would point it elsewhere. */
const gitEnvironment = (): NodeJS.ProcessEnv => {
  const env = { ...process.env, LC_ALL: 'C', GIT_OPTIONAL_LOCKS: '0' }
  for (const name of Object.keys(env)) {
    if (/^GIT_(DIR|WORK_TREE|INDEX_FILE|PREFIX|COMMON_DIR|OBJECT_DIRECTORY|NAMESPACE)$/.test(name)) {
      Reflect.deleteProperty(env, name)
    }
  }
  return env
}

const git = (folder: BytePath, args: readonly string[]): Promise<Buffer> =>
  new Promise((resolve, reject) => {
    const shown = shownPath(folder)
    // A file system monitor would start a daemon of its own in the work tree.
    const all = ['-c', 'core.fsmonitor=false', ...args]
    const options = {
      cwd: shown,
      env: gitEnvironment(),
      encoding: 'buffer',
      maxBuffer: LISTING_LIMIT_BYTES,
      timeout: GIT_DEADLINE_MS,
    } as const
    execFile('git', all, options, (error, stdout, stderr) => {
      if (error === null) resolve(stdout)
      else reject(gitError(shown, error, stderr.toString().trim()))
    })
  })

const gitError = (folder: string, error: Error, message: string): PyroError => {
  const code = (error as NodeJS.ErrnoException).code
  if (code === 'ENOENT') {
    return new PyroError('host.missing-tool', 'git is not installed on this host; nothing was changed', {
      hint: 'apt-get install git, or seed with --seed-path',
      cause: error,
    })
  }
  if (message.includes('not a git repository')) {
    return new PyroError('input.invalid', `${folder} is not in a git work tree; nothing was changed`, {
      hint: 'git init there, or seed with --seed-path',
      data: { path: folder },
      cause: error,
    })
  }
  return new PyroError(
    'path.unreadable',
    `git cannot list ${folder}: ${message || error.message}; nothing was changed`,
    {
      hint: message.includes('dubious ownership') ? `git config --global --add safe.directory ${folder}` : undefined,
      data: { path: folder },
      cause: error,
    },
  )
}

const tooMany = (): PyroError =>
  new PyroError('archive.too-large', `more than ${LIMITS.archiveEntries} files; nothing was changed`, {
    data: { limitEntries: LIMITS.archiveEntries },
  })
