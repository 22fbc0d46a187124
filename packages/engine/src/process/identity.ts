import { readFileSync } from 'node:fs'

/** A process is its pid and its start time in clock ticks since boot (field 22 of /proc/PID/stat): pids are used again. */
export interface ProcessIdentity {
  readonly pid: number
  readonly startTime: string
}

/** For people and for comparing: `1234@56789`. */
export const processId = ({ pid, startTime }: ProcessIdentity): string => `${pid}@${startTime}`

export interface ProcessStat extends ProcessIdentity {
  /** One letter of /proc/PID/stat: R S D T t Z X. */
  readonly state: string
  readonly parentPid: number
  /** Pid of the process that began the session; it may be gone. */
  readonly session: number
  readonly command: string
}

/** Null when there is no such process. */
export function processStat(pid: number): ProcessStat | null {
  try {
    return parseStat(readFileSync(`/proc/${pid}/stat`, 'latin1'))
  } catch (error) {
    if (isGone(error)) return null
    throw error
  }
}

/** The command name is free text in parentheses: everything after the last one is fields. */
export function parseStat(text: string): ProcessStat | null {
  const open = text.indexOf('(')
  const close = text.lastIndexOf(')')
  if (open < 0 || close < open) return null
  const pid = Number(text.slice(0, open))
  const fields = text.slice(close + 2).split(' ')
  const [state, parent, , session] = fields
  const startTime = fields[19]
  if (!Number.isSafeInteger(pid) || state === undefined || parent === undefined || startTime === undefined) return null
  const command = text.slice(open + 1, close)
  return { pid, startTime, state, parentPid: Number(parent), session: Number(session), command }
}

/** Alive means: the same process, and not a zombie. */
export function isAlive(identity: ProcessIdentity): boolean {
  const stat = processStat(identity.pid)
  return stat !== null && stat.startTime === identity.startTime && stat.state !== 'Z' && stat.state !== 'X'
}

/** Sends the signal only to that very process; false when it is gone. */
export function signalProcess(identity: ProcessIdentity, signal: NodeJS.Signals): boolean {
  if (!isAlive(identity)) return false
  try {
    process.kill(identity.pid, signal)
    return true
  } catch (error) {
    if (errnoOf(error) === 'ESRCH') return false
    throw error
  }
}

export const errnoOf = (error: unknown): string | null =>
  error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : null

const isGone = (error: unknown): boolean => {
  const errno = errnoOf(error)
  return errno === 'ENOENT' || errno === 'ESRCH'
}
