/** What exec, command_wait and run have in common: the first line about a command, and its output. */
import type { CommandResult } from '@pyro/protocol'
import { CommandOutput } from './text/command-output.ts'
import type { Shown } from './text/line-window.ts'
import { count, duration, size } from './text/quantity.ts'
import { oneLine } from './text/terminal-text.ts'

/** Output of one answer: the default, and the most a call can ask for. */
export const OUTPUT_LIMIT_BYTES = 64 * 1024
const OUTPUT_LEAST_BYTES = 256

/** What resolvers and libraries print when there is no way out. */
const NO_NETWORK =
  /Could not resolve host|Temporary failure (in name resolution|resolving)|Name or service not known|EAI_AGAIN|ENOTFOUND|Network is unreachable|No address associated with hostname/

export const outputBudget = (askedBytes: number): number =>
  Math.min(OUTPUT_LIMIT_BYTES, Math.max(OUTPUT_LEAST_BYTES, askedBytes))

export const collectOutput = (maxBytes: number): CommandOutput =>
  new CommandOutput({ maxBytes: outputBudget(maxBytes), keep: 'both', startOffset: 0 })

export interface OutcomeOptions {
  readonly memoryMib: number
  readonly diskMib: number
  /** What was asked for, when the command has a limit of time. */
  readonly timeoutMs?: number | undefined
}

/** `exit 1 · 3.2 s · cmd-…`, `killed: memory limit 2048 MiB · …`, `timeout 120 s · …`. */
export const outcomeLine = (result: CommandResult, options: OutcomeOptions): string =>
  [outcome(result, options), duration(result.durationMs), result.commandId].join(' · ')

const outcome = (result: CommandResult, { memoryMib, diskMib, timeoutMs }: OutcomeOptions): string => {
  if (result.state === 'interrupted')
    return `interrupted by ${oneLine(result.interruptedBy ?? 'the end of its sandbox')}`
  if (result.timedOut) return `timeout ${duration(timeoutMs ?? result.durationMs)}`
  if (result.limit === 'memory') return `killed: memory limit ${memoryMib} MiB`
  const exit = result.signal === null ? `exit ${result.exitCode ?? 'unknown'}` : `killed by SIG${result.signal}`
  if (result.limit === 'pids') return `${exit}: process limit`
  if (result.limit === 'disk') return `${exit}: disk full, ${diskMib} MiB`
  return exit
}

/** `still running after 20 s · last output 3 s ago · cmd-…`. */
export const runningLine = (id: string, elapsedMs: number, output: CommandOutput): string =>
  [
    `still running after ${duration(elapsedMs)}`,
    output.lastAtMs === null ? 'no output yet' : `last output ${duration(Date.now() - output.lastAtMs)} ago`,
    id,
  ].join(' · ')

/** Head, what is left out and how to get it, tail. */
export const outputText = ({ head, tail, leftOut }: Shown, fetchCall: (offset: number) => string): string => {
  if (leftOut === null) return head.replace(/\n$/, '')
  const gap = `… ${size(leftOut.bytes)} (${count(leftOut.lines, 'line')}) left out: ${fetchCall(leftOut.offset)} …`
  return `${head}${gap}\n${tail}`.replace(/\n$/, '')
}

export const networkHint = (result: CommandResult, { head, tail }: Shown, network: string): string | null =>
  network === 'off' && result.exitCode !== 0 && NO_NETWORK.test(head + tail)
    ? 'hint: this workspace has no network'
    : null

/** A command as a person would type it, for one line. */
export const commandText = (command: CommandResult['command']): string =>
  oneLine(typeof command === 'string' ? command : command.join(' '))

/** The command as data, without the inline output that the text has in its own form. */
export const commandData = (result: CommandResult, shown: Shown): Record<string, unknown> => {
  const { stdout: _stdout, stderr: _stderr, stdoutBase64: _a, stderrBase64: _b, ...rest } = result
  return { ...rest, output: shown.head + shown.tail, leftOut: shown.leftOut }
}
