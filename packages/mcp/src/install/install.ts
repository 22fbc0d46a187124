import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { copyFile, mkdir, open, readFile, realpath, rename, rm, stat } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import type { McpProfile } from '@pyro/protocol'
import { gitTopLevel } from '@pyro/sdk'
import { CLIENTS, type Folders, type InstallClient, type InstallScope, type ServerCommand } from './clients.ts'
import { merge } from './merge.ts'

/** Kept beside a configuration that was changed: how it was before the first change. */
const BACKUP_SUFFIX = '.before-pyro'
const NEW_FILE_MODE = 0o600

export interface InstallOptions {
  readonly client: InstallClient
  /** `user`: every project of this user. `project`: this one, in a file that can be shared. Default `user`. */
  readonly scope?: InstallScope | undefined
  /** True: change nothing, only say what would be written. */
  readonly print?: boolean | undefined
  /** How the host starts the server. Default: `pyro mcp serve`. */
  readonly server?: ServerCommand | undefined
  readonly profile?: McpProfile | undefined
  readonly env?: NodeJS.ProcessEnv | undefined
  readonly home?: string | undefined
  readonly cwd?: string | undefined
}

export interface Installed {
  readonly client: InstallClient
  readonly scope: InstallScope
  readonly path: string
  /** `unchanged` when it stood there already. */
  readonly outcome: 'written' | 'unchanged' | 'printed'
  /** The file as it was before the first change; null when there was none. */
  readonly backup: string | null
  /** What was put there, as a file of its own: the rest of a configuration may hold secrets. */
  readonly text: string
}

/**
 * Writes the server into the configuration of a host: merged, with a backup, and a second time without effect.
 *
 * @throws PyroError `input.invalid` when the configuration cannot be read; nothing is changed then
 */
export const install = async (options: InstallOptions): Promise<Installed> => {
  const { client, scope = 'user', print = false } = options
  const config = CLIENTS[client]
  const path = await throughLinks(config.path(foldersOf(options), scope))
  const entry = config.entry(serverOf(options))
  const said = { client, scope, path, text: merge(config, '', entry, path) }
  if (print) return { ...said, outcome: 'printed', backup: null }
  const before = await readOrEmpty(path)
  const text = merge(config, before ?? '', entry, path)
  if (text === before) return { ...said, outcome: 'unchanged', backup: null }
  const backup = before === null ? null : await backUp(path)
  await writeAtomically(path, text)
  return { ...said, outcome: 'written', backup }
}

const foldersOf = ({ env = process.env, home = homedir(), cwd = process.cwd() }: InstallOptions): Folders => ({
  home,
  project: gitTopLevel(cwd) ?? cwd,
  config: env['XDG_CONFIG_HOME'] || join(home, '.config'),
  codex: env['CODEX_HOME'] ?? join(home, '.codex'),
})

const serverOf = ({ client, server, profile }: InstallOptions): ServerCommand => {
  const { command, args } = server ?? { command: 'pyro', args: ['mcp', 'serve'] }
  const { projectVariable } = CLIENTS[client]
  return {
    command,
    args: [
      ...args,
      ...(profile === undefined ? [] : ['--profile', profile]),
      ...(projectVariable === undefined ? [] : ['--project-path', projectVariable]),
    ],
  }
}

/** A configuration kept elsewhere by a link is changed there; the link stays. */
const throughLinks = async (path: string): Promise<string> => {
  try {
    return await realpath(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return path
    throw error
  }
}

const readOrEmpty = async (path: string): Promise<string | null> => {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}

const backUp = async (path: string): Promise<string> => {
  const backup = path + BACKUP_SUFFIX
  try {
    await copyFile(path, backup, constants.COPYFILE_EXCL)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  }
  return backup
}

const writeAtomically = async (path: string, text: string): Promise<void> => {
  await mkdir(dirname(path), { recursive: true })
  const temporary = `${path}.${randomBytes(6).toString('hex')}`
  try {
    await using file = await open(temporary, 'wx', await modeOf(path))
    await file.writeFile(text)
    await file.sync()
    await rename(temporary, path)
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
}

const modeOf = async (path: string): Promise<number> => {
  try {
    return (await stat(path)).mode & 0o777
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return NEW_FILE_MODE
    throw error
  }
}
