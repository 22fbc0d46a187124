import { readdir, readFile, readlink } from 'node:fs/promises'
import { errnoOf, parseStat, type ProcessStat } from './identity.ts'
import { parseMountinfo, type MountLine } from './mountinfo.ts'

/** Files of /proc read at one time. */
const READ_AT_ONCE = 64

/** A process of this host as it was at one moment. Kernel threads and zombies have no argv. */
export interface HostProcess extends ProcessStat {
  /** Real user id as the host sees it: root of a sandbox is not 0 here. */
  readonly uid: number
  readonly argv: readonly string[]
}

export const readProcessTable = async (): Promise<HostProcess[]> => {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number)
  return (await inBatches(pids, readProcess)).filter((found) => found !== null)
}

/** At most a few at one time, so that a host with thousands of processes does not cost thousands of open files. */
export const inBatches = async <In, Out>(all: readonly In[], work: (one: In) => Promise<Out>): Promise<Out[]> => {
  const results: Out[] = []
  for (let at = 0; at < all.length; at += READ_AT_ONCE)
    results.push(...(await Promise.all(all.slice(at, at + READ_AT_ONCE).map(work))))
  return results
}

/** The lines of /proc/PID/cgroup; empty when the process is gone. */
export const readCgroups = (pid: number): Promise<string> => readOf(pid, 'cgroup')

/** Empty when the process is gone or none of ours to read. */
export const readEnvironment = async (pid: number): Promise<ReadonlyMap<string, string>> => {
  const pairs = (await readOf(pid, 'environ')).split('\0').flatMap((pair): [string, string][] => {
    const at = pair.indexOf('=')
    return at > 0 ? [[pair.slice(0, at), pair.slice(at + 1)]] : []
  })
  return new Map(pairs)
}

export const readMountsOf = async (pid: number): Promise<MountLine[]> => parseMountinfo(await readOf(pid, 'mountinfo'))

/** Name of the mount namespace; null when the process is gone. */
export const mountNamespaceOf = async (pid: number): Promise<string | null> => {
  try {
    return await readlink(`/proc/${pid}/ns/mnt`)
  } catch (error) {
    if (isUnreadable(error)) return null
    throw error
  }
}

const readProcess = async (pid: number): Promise<HostProcess | null> => {
  const [stat, status, argv] = await Promise.all(['stat', 'status', 'cmdline'].map((file) => readOf(pid, file)))
  const parsed = parseStat(stat ?? '')
  const uid = /^Uid:\s+(\d+)/m.exec(status ?? '')?.[1]
  if (parsed === null || uid === undefined) return null
  return { ...parsed, uid: Number(uid), argv: (argv ?? '').split('\0').slice(0, -1) }
}

const readOf = async (pid: number, file: string): Promise<string> => {
  try {
    return await readFile(`/proc/${pid}/${file}`, 'utf8')
  } catch (error) {
    if (isUnreadable(error)) return ''
    throw error
  }
}

/** Gone, going, or (mountinfo of a dying one) without what is asked for. */
const isUnreadable = (error: unknown): boolean =>
  ['ENOENT', 'ESRCH', 'EACCES', 'EPERM', 'EINVAL'].includes(errnoOf(error) ?? '')
