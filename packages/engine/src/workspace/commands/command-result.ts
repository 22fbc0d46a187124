import { PyroError, type CommandResult, type LimitHit } from '@pyro/protocol'
import type { CommandExit } from '../../agent/agent-client.ts'
import type { CommandInline, CommandRow } from '../../store/commands.ts'
import { nowText } from '../../lib/wait.ts'
import { clipInline, inlineText } from './head-tail.ts'

const EXIT_TIMEOUT = 124
const EXIT_LIMIT = 125
const EXIT_CANNOT_RUN = 126
const EXIT_NOT_FOUND = 127
const EXIT_SIGNAL_BASE = 128

/** Numbers of the signals that end processes, as Linux counts them on every machine we run on. */
const SIGNALS: Readonly<Record<string, number>> = {
  HUP: 1,
  INT: 2,
  QUIT: 3,
  ILL: 4,
  TRAP: 5,
  ABRT: 6,
  BUS: 7,
  FPE: 8,
  KILL: 9,
  USR1: 10,
  SEGV: 11,
  USR2: 12,
  PIPE: 13,
  ALRM: 14,
  TERM: 15,
  STKFLT: 16,
  XCPU: 24,
  XFSZ: 25,
  VTALRM: 26,
  PROF: 27,
  IO: 29,
  PWR: 30,
  SYS: 31,
}

const START_ERROR_CODES = {
  'not-found': EXIT_NOT_FOUND,
  'cannot-run': EXIT_CANNOT_RUN,
  'limit-pids': EXIT_LIMIT,
  'bad-cwd': EXIT_CANNOT_RUN,
  'bad-user': EXIT_CANNOT_RUN,
} as const satisfies Record<NonNullable<CommandExit['startError']>['kind'], number>

/** The exit code as a shell would say it. */
export const exitCodeOf = (exit: CommandExit): number => {
  if (exit.timedOut) return EXIT_TIMEOUT
  if (exit.startError !== null) return START_ERROR_CODES[exit.startError.kind]
  if (exit.exitCode !== null) return exit.exitCode
  return EXIT_SIGNAL_BASE + (exit.signal === null ? 0 : (SIGNALS[exit.signal] ?? realTimeSignal(exit.signal)))
}

const realTimeSignal = (name: string): number => Number(/\d+/.exec(name)?.[0] ?? 0)

export interface ResultOptions {
  /** Bytes of inline output of both streams together; default: all that is kept. */
  readonly inlineBytes?: number
}

export const commandResult = (row: CommandRow, inline: CommandInline, options: ResultOptions = {}): CommandResult => {
  const budget = options.inlineBytes === undefined ? Infinity : options.inlineBytes / 2
  const out = clipInline(inline.stdoutHead, inline.stdoutTail, budget)
  const err = clipInline(inline.stderrHead, inline.stderrTail, budget)
  const stdout = inlineText(out.head, out.tail, row.stdoutBytes)
  const stderr = inlineText(err.head, err.tail, row.stderrBytes)
  return {
    workspaceId: row.workspaceId,
    commandId: row.id,
    sequence: row.sequence,
    command: typeof row.command === 'string' ? row.command : [...row.command],
    cwd: row.cwd,
    state: row.state,
    startedAt: nowText(row.startedAt),
    exitCode: row.exitCode,
    signal: row.signal,
    timedOut: row.timedOut,
    limit: row.limit,
    interruptedBy: row.interruptedBy,
    durationMs: (row.endedAt ?? Math.max(Date.now(), row.startedAt)) - row.startedAt,
    stdout: stdout.text,
    stderr: stderr.text,
    ...(stdout.base64 === null ? {} : { stdoutBase64: stdout.base64 }),
    ...(stderr.base64 === null ? {} : { stderrBase64: stderr.base64 }),
    stdoutBytes: row.stdoutBytes,
    stderrBytes: row.stderrBytes,
    truncated: stdout.truncated || stderr.truncated,
  }
}

/** One line for people. */
export const commandText = (command: string | readonly string[]): string =>
  typeof command === 'string' ? command : command.join(' ')

/** Interruptions after which there is no workspace. */
export const DELETED = 'delete'
export const EXPIRED = 'the end of its time to live'

/** What ended a command that did not end by itself. */
export interface Interruption {
  /** `reset`, `stop`, `delete`, the end of its time to live, or what killed the sandbox. */
  readonly by: string
  readonly limit: LimitHit | null
}

const isGone = ({ interruptedBy }: CommandResult): boolean => interruptedBy === DELETED || interruptedBy === EXPIRED

export const interruptedError = (result: CommandResult): PyroError =>
  new PyroError(
    'command.interrupted',
    `${result.commandId} ended with its sandbox: ${result.interruptedBy ?? 'the sandbox died'}`,
    {
      hint: isGone(result) ? 'pyro workspace list' : `pyro workspace status ${result.workspaceId}`,
      data: { interruptedBy: result.interruptedBy, limit: result.limit, command: { ...result } },
    },
  )
