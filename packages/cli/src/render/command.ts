import type { CommandResult } from '@pyro/protocol'
import { formatDuration } from './format.ts'

/** `exit 1 · 3.2 s · cmd-…`, or why it ended otherwise. */
export const summaryOf = (result: CommandResult): string =>
  [outcomeOf(result), formatDuration(result.durationMs), result.commandId].join(' · ')

export const outcomeOf = (result: CommandResult): string => {
  if (result.state === 'running') return 'running'
  if (result.state === 'interrupted') return `interrupted by ${result.interruptedBy ?? 'the end of its sandbox'}`
  const limit = result.limit === null ? '' : ` (${result.limit} limit)`
  if (result.timedOut) return `timed out${limit}`
  if (result.limit === null && result.signal !== null) return `killed by ${result.signal}`
  return `exit ${result.exitCode}${limit}`
}

/** The command's own code; 125 when it has none. */
export const exitOf = (result: CommandResult): number => result.exitCode ?? 125
