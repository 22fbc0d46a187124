import { realpath } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { defaultHome } from '../lib/config.ts'
import { errnoOf } from './identity.ts'
import { readArgv, readEnvironment, readProcessTable, type HostProcess } from './process-table.ts'

/** Roles of the agent binary that end with the engine that started them. */
const ROLES: ReadonlySet<string> = new Set(['volumes', 'populate', 'unpack', 'inspect'])

/** As the kernel calls the first process of a helper; a build is one of `unshare`. */
const PROGRAMS = /^(pyro-agent|unshare$|mmdebstrap$)/

/** Environment of the helpers of this engine: by it a later one tells whose they are. */
export const helperMark = (): Record<string, string> => ({
  PYRO_HOME: resolve(defaultHome(process.env, process.getuid?.() ?? 0)),
})

/**
 * Helpers of a home that no longer have their engine: volumes helpers, one-shots and builds of environments which outlived a killed
 * one. Those that have a parent among them are left out. Only processes of the host's root count: what runs in a sandbox may call
 * itself anything.
 */
export const findStrayHelpers = async (home: string): Promise<HostProcess[]> => {
  const table = await readProcessTable()
  const parents = new Map(table.map(({ pid, parentPid }) => [pid, parentPid]))
  const stray: HostProcess[] = []
  for (const candidate of table) {
    if (candidate.uid !== 0 || !PROGRAMS.test(candidate.command) || isBelow(candidate.pid, process.pid, parents))
      continue
    if (await belongsTo(candidate.pid, home)) stray.push(candidate)
  }
  const pids = new Set(stray.map(({ pid }) => pid))
  return stray.filter(({ parentPid }) => !pids.has(parentPid))
}

const belongsTo = async (pid: number, home: string): Promise<boolean> => {
  const environment = await readEnvironment(pid)
  if (environment.get('PYRO_BUILD')?.startsWith(join(home, '/')) === true) return true
  const [program = '', role = ''] = await readArgv(pid)
  const named = environment.get('PYRO_HOME')
  return (
    basename(program).startsWith('pyro-agent') &&
    ROLES.has(role) &&
    named !== undefined &&
    (await realPathOf(named)) === home
  )
}

const isBelow = (pid: number, ancestor: number, parents: ReadonlyMap<number, number>): boolean => {
  for (let at: number | undefined = pid; at !== undefined && at !== 0; at = parents.get(at))
    if (at === ancestor) return true
  return false
}

const realPathOf = async (path: string): Promise<string> => {
  try {
    return await realpath(path)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return path
    throw error
  }
}
