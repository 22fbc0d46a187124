import { execFile } from 'node:child_process'
import { closeSync, constants, lstatSync, openSync, type Stats } from 'node:fs'
import { LIMITS, PyroError } from '@pyro/protocol/client'
import { bytePath, fromBuffer, joinBytes, shownPath, systemPath, type BytePath } from './path-bytes.ts'
import type { PackSource } from './tar/pack.ts'
import { skippedSocket, specialFile, type Skipped } from './tree.ts'

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
 * @throws PyroError `host.missing-tool` without git, `input.invalid` when the folder is no work tree, `archive.unsafe-entry` for devices
 * and pipes where a tracked file was
 */
export const listWorkTree = async (root: BytePath, skipped: (entry: Skipped) => void): Promise<WorkTree> => {
  const files: BytePath[] = []
  const untracked = await collect({ root, below: '' as BytePath, depth: 0, files, skipped })
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

interface Found {
  readonly files: BytePath[]
  readonly skipped: (entry: Skipped) => void
}

interface Collected extends Found {
  readonly root: BytePath
  /** The work tree to list, relative to the root. */
  readonly below: BytePath
  readonly depth: number
}

/** Adds the files of one work tree and of those nested in it; returns how many are untracked. */
const collect = async ({ root, below, depth, ...found }: Collected): Promise<number> => {
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
    if (!stats.isDirectory()) keep(path, stats, found)
    // A submodule or another work tree inside this one. Without its own .git (not checked out) it holds nothing.
    else if (present(joinBytes(root, joinBytes(path, '.git'))) !== null)
      count += await collect({ root, below: path, depth: depth + 1, ...found })
    if (found.files.length > LIMITS.archiveEntries) throw tooMany()
  }
  return count + untracked.filter((name) => !name.endsWith('/')).length
}

/** Git tracks files and links; what lies in the place of one now may be anything. */
const keep = (path: BytePath, stats: Stats, { files, skipped }: Found): void => {
  if (stats.isSocket()) skipped(skippedSocket(path))
  else if (stats.isFile() || stats.isSymbolicLink()) files.push(path)
  else throw specialFile(path, stats, `put the tracked file back: git restore ${shownPath(path)}`)
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
    throw unreadable(path, error)
  }
}

const unreadable = (path: BytePath, cause: unknown): PyroError => {
  const code = String((cause as NodeJS.ErrnoException).code)
  return new PyroError('path.unreadable', `${shownPath(path)} cannot be read (${code}); nothing was changed`, { cause })
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

const git = async (folder: BytePath, args: readonly string[]): Promise<Buffer> => {
  const shown = shownPath(folder)
  const held = openFolder(folder)
  try {
    // A working folder is text to Node. The descriptor leads to one whose name is none.
    const cwd = bytePath(shown) === folder ? shown : `/proc/${process.pid}/fd/${held}`
    return await gitIn(cwd, shown, args)
  } finally {
    closeSync(held)
  }
}

const openFolder = (folder: BytePath): number => {
  try {
    return openSync(systemPath(folder), constants.O_RDONLY | constants.O_DIRECTORY)
  } catch (error) {
    throw unreadable(folder, error)
  }
}

const gitIn = (cwd: string, shown: string, args: readonly string[]): Promise<Buffer> =>
  new Promise((resolve, reject) => {
    // A file system monitor would start a daemon of its own in the work tree.
    const all = ['-c', 'core.fsmonitor=false', ...args]
    const options = {
      cwd,
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
  if (message.includes('must be run in a work tree')) {
    return new PyroError('input.invalid', `${folder} is a repository without a work tree; nothing was changed`, {
      hint: 'name a work tree of it: git clone it, or git worktree add',
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
