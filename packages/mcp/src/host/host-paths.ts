/**
 * Which files of the host a model may name.
 *
 * Reads stay beneath the project and the folders of `allowRead`, writes beneath the project and those of `allowWrite`; nothing
 * is written into a `.git`, nothing is reached through a symbolic link. A path is walked one component at a time from the root it
 * lies beneath, each opened relative to the one before without following links, so that what was checked is what is used.
 */
import { constants } from 'node:fs'
import { lstat, open, opendir, realpath, stat, type FileHandle } from 'node:fs/promises'
import { isAbsolute, join, relative, resolve, sep } from 'node:path'
import { PyroError } from '@pyro/protocol'
import { gitTopLevel } from '@pyro/sdk'
import { oneLine } from '../text/terminal-text.ts'

/** Entries looked at to be sure that no folder below an export target is a `.git`. */
const TREE_ENTRY_LIMIT = 200_000

export interface HostPathOptions {
  /** The project; `undefined`: the git top level of `cwd`, if there is one. */
  readonly projectPath?: string | undefined
  readonly allowRead?: readonly string[] | undefined
  readonly allowWrite?: readonly string[] | undefined
  readonly cwd?: string | undefined
}

interface Root {
  /** As the user gave it, absolute. */
  readonly given: string
  /** Without symbolic links. */
  readonly real: string
}

/** A path that was checked, with its parent held open until it is disposed. */
export interface HostPath extends AsyncDisposable {
  /** Absolute, without symbolic links. */
  readonly path: string
  /** As the model should see it: relative to the project where it lies there. */
  readonly shown: string
  /** The same place by the descriptor of its parent: stays what was checked, whatever is renamed meanwhile. */
  readonly pinned: string
  readonly exists: boolean
  readonly isDirectory: boolean
}

export class HostPaths {
  /** Absolute, without symbolic links; null when there is no project. */
  readonly project: string | null
  readonly #read: readonly Root[]
  readonly #write: readonly Root[]

  private constructor(project: Root | null, read: readonly Root[], write: readonly Root[]) {
    this.project = project?.real ?? null
    const own = project === null ? [] : [project]
    this.#read = [...own, ...read]
    this.#write = [...own, ...write]
  }

  static async open(options: HostPathOptions = {}): Promise<HostPaths> {
    const cwd = options.cwd ?? process.cwd()
    const project = options.projectPath ?? gitTopLevel(cwd)
    return new HostPaths(
      project === null ? null : await rootOf(project, cwd),
      await Promise.all((options.allowRead ?? []).map((path) => rootOf(path, cwd))),
      await Promise.all((options.allowWrite ?? []).map((path) => rootOf(path, cwd))),
    )
  }

  /** A file or folder that may be read. */
  async readable(path: string): Promise<HostPath> {
    const target = await this.#walk(path, this.#read, 'read')
    if (target.exists) return target
    await target[Symbol.asyncDispose]()
    throw new PyroError('path.not-found', `${shownPath(path)} does not exist on the host; nothing was changed`)
  }

  /** A place that may be written; its parent exists. */
  async writable(path: string): Promise<HostPath> {
    const target = await this.#walk(path, this.#write, 'write')
    try {
      if (target.isDirectory) await refuseGitBelow(target)
      return target
    } catch (error) {
      await target[Symbol.asyncDispose]()
      throw error
    }
  }

  async #walk(path: string, roots: readonly Root[], access: 'read' | 'write'): Promise<HostPath> {
    const { root, parts } = this.#locate(path, roots, access)
    if (access === 'write') refuseGit(path, parts)
    const last = parts.at(-1)
    if (last === undefined) return this.#wholeRoot(path, root, access)
    await using cleanup = new AsyncDisposableStack()
    let folder = cleanup.use(await openFolder(root.real))
    for (const part of parts.slice(0, -1)) folder = cleanup.use(await stepInto(folder, part, path))
    const pinned = `/proc/self/fd/${folder.fd}/${last}`
    const found = await lstatOrNull(pinned)
    if (found?.isSymbolicLink() === true) throw throughLink(path, last)
    if (found !== null && !found.isFile() && !found.isDirectory()) {
      throw notAllowed(path, 'is neither a file nor a folder')
    }
    const held = cleanup.move()
    return {
      path: join(root.real, ...parts),
      shown: this.#show(join(root.real, ...parts)),
      pinned,
      exists: found !== null,
      isDirectory: found?.isDirectory() === true,
      [Symbol.asyncDispose]: () => held.disposeAsync(),
    }
  }

  /** The root itself: may be read; written it would take the `.git` of the project with it. */
  async #wholeRoot(path: string, root: Root, access: 'read' | 'write'): Promise<HostPath> {
    if (access === 'write') throw notAllowed(path, 'is a whole root; name something beneath it')
    const found = await stat(root.real)
    return {
      path: root.real,
      shown: this.#show(root.real),
      pinned: root.real,
      exists: true,
      isDirectory: found.isDirectory(),
      [Symbol.asyncDispose]: async () => undefined,
    }
  }

  #locate(path: string, roots: readonly Root[], access: 'read' | 'write'): { root: Root; parts: readonly string[] } {
    if (path === '' || path.includes('\0')) throw new PyroError('input.invalid', 'a host path is empty or holds NUL')
    if (!isAbsolute(path) && this.project === null) {
      throw notAllowed(path, 'is relative and this server has no project', 'start the server with --project-path PATH')
    }
    const absolute = resolve(this.project ?? '/', path)
    for (const root of roots) {
      for (const base of [root.real, root.given]) {
        const below = relative(base, absolute)
        if (below === '') return { root, parts: [] }
        if (!isAbsolute(below) && below !== '..' && !below.startsWith(`..${sep}`))
          return { root, parts: below.split(sep) }
      }
    }
    throw notAllowed(
      path,
      this.project === null ? 'is outside the allowed folders' : 'is outside the project',
      `name a path in the project, or start the server with --allow-${access} PATH`,
    )
  }

  #show(path: string): string {
    if (this.project === null) return path
    const below = relative(this.project, path)
    if (below === '') return '.'
    return below === '..' || below.startsWith(`..${sep}`) ? path : below
  }
}

const rootOf = async (path: string, cwd: string): Promise<Root> => {
  const given = resolve(cwd, path)
  try {
    return { given, real: await realpath(given) }
  } catch (error) {
    throw new PyroError('path.not-found', `the allowed folder ${shownPath(given)} cannot be used`, { cause: error })
  }
}

const openFolder = (path: string): Promise<FileHandle> =>
  open(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW)

const stepInto = async (folder: FileHandle, part: string, path: string): Promise<FileHandle> => {
  const next = `/proc/self/fd/${folder.fd}/${part}`
  try {
    return await openFolder(next)
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'ENOENT') {
      throw new PyroError(
        'path.not-found',
        `the folder ${oneLine(part)} of ${shownPath(path)} does not exist on the host`,
        {
          cause: error,
        },
      )
    }
    if (code === 'ELOOP' || (code === 'ENOTDIR' && (await lstatOrNull(next))?.isSymbolicLink() === true)) {
      throw throughLink(path, part)
    }
    if (code === 'ENOTDIR') {
      throw new PyroError('path.not-a-file', `${oneLine(part)} of ${shownPath(path)} is not a folder on the host`)
    }
    throw new PyroError('path.unreadable', `${shownPath(path)} cannot be opened on the host (${String(code)})`, {
      cause: error,
    })
  }
}

const lstatOrNull = async (path: string): Promise<Awaited<ReturnType<typeof lstat>> | null> => {
  try {
    return await lstat(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}

const isGitName = (name: string): boolean => name.toLowerCase() === '.git'

const refuseGit = (path: string, parts: readonly string[]): void => {
  if (parts.some(isGitName)) throw notAllowed(path, 'is in a .git folder')
}

/** Overwriting a folder could reach a repository inside it: then nothing is written at all. */
const refuseGitBelow = async ({ pinned, shown }: HostPath): Promise<void> => {
  let seen = 0
  for await (const entry of await opendir(pinned, { recursive: true })) {
    seen += 1
    if (isGitName(entry.name)) throw notAllowed(shown, 'holds a .git folder')
    if (seen > TREE_ENTRY_LIMIT) throw notAllowed(shown, `holds more than ${TREE_ENTRY_LIMIT} entries`)
  }
}

const shownPath = (path: string): string => oneLine(path)

const throughLink = (path: string, part: string): PyroError =>
  notAllowed(path, `goes through the symbolic link ${oneLine(part)}`)

const notAllowed = (path: string, why: string, hint = 'name another path in the project'): PyroError =>
  new PyroError('host-path.not-allowed', `${shownPath(path)} ${why}; nothing was read or written`, { hint })
