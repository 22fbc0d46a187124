import { realpath } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { defaultHome } from '../lib/config.ts'
import { errnoOf } from './identity.ts'
import { inBatches, readEnvironment, readProcessTable, type HostProcess } from './process-table.ts'

/** Roles of the agent binary that end with the engine that started them. */
const ROLES: ReadonlySet<string> = new Set(['volumes', 'populate', 'unpack', 'inspect'])

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
  const candidates = table.filter(({ pid, uid }) => uid === 0 && !isBelow(pid, process.pid, parents))
  const marked = await inBatches(candidates, async (one) => ((await belongsTo(one, home)) ? one : null))
  const stray = marked.filter((one) => one !== null)
  const pids = new Set(stray.map(({ pid }) => pid))
  return stray.filter(({ parentPid }) => !pids.has(parentPid))
}

const belongsTo = async ({ pid, argv }: HostProcess, home: string): Promise<boolean> => {
  if (argv.length === 0) return false
  const environment = await readEnvironment(pid)
  if (environment.get('PYRO_BUILD')?.startsWith(join(home, '/')) === true) return true
  const [program = '', role = ''] = argv
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
