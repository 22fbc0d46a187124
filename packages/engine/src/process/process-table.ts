import { readFileSync, readlinkSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { errnoOf, processStat, type ProcessStat } from './identity.ts'
import { parseMountinfo, type MountLine } from './mountinfo.ts'

/** Processes that are looked at before others get their turn. */
const AT_ONCE = 64
/** Parent of all kernel threads. */
const KTHREADD = 2

/** A process of this host as it was at one moment. */
export interface HostProcess extends ProcessStat {
  /** Real user id as the host sees it: root of a sandbox is not 0 here. */
  readonly uid: number
}

/** Without kernel threads and zombies. Both files are answered from the kernel's own tables, so they are read at once. */
export const readProcessTable = async (): Promise<HostProcess[]> => {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number)
  const table: HostProcess[] = []
  for (const [index, pid] of pids.entries()) {
    if (index % AT_ONCE === AT_ONCE - 1) await nextTurn()
    const stat = processStat(pid)
    if (stat === null || stat.state === 'Z' || pid === KTHREADD || stat.parentPid === KTHREADD) continue
    const uid = /^Uid:\s+(\d+)/m.exec(statusOf(pid))?.[1]
    if (uid !== undefined) table.push({ ...stat, uid: Number(uid) })
  }
  return table
}

/** The lines of /proc/PID/cgroup; empty when the process is gone. */
export const readCgroups = (pid: number): Promise<string> => readWaiting(pid, 'cgroup')

export const readMountsOf = async (pid: number): Promise<MountLine[]> =>
  parseMountinfo(await readWaiting(pid, 'mountinfo'))

/** Name of the mount namespace; null when the process is gone. */
export const mountNamespaceOf = (pid: number): string | null => {
  try {
    return readlinkSync(`/proc/${pid}/ns/mnt`)
  } catch (error) {
    if (isUnreadable(error)) return null
    throw error
  }
}

/** Empty when the process is gone. */
export const readArgv = async (pid: number): Promise<string[]> =>
  (await readWaiting(pid, 'cmdline')).split('\0').slice(0, -1)

/** Empty when the process is gone. */
export const readEnvironment = async (pid: number): Promise<ReadonlyMap<string, string>> => {
  const pairs = (await readWaiting(pid, 'environ')).split('\0').flatMap((pair): [string, string][] => {
    const at = pair.indexOf('=')
    return at > 0 ? [[pair.slice(0, at), pair.slice(at + 1)]] : []
  })
  return new Map(pairs)
}

const statusOf = (pid: number): string => {
  try {
    return readFileSync(`/proc/${pid}/status`, 'utf8')
  } catch (error) {
    if (isUnreadable(error)) return ''
    throw error
  }
}

/** Behind locks of the kernel, or in the memory of the process: the reader may have to wait, and this process must not. */
const readWaiting = async (pid: number, file: string): Promise<string> => {
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
