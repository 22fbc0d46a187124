import { spawn, type ChildProcess } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { isErrorCode, PyroError, type ErrorBody } from '@pyro/protocol/client'
import { EngineLog } from './engine-log.ts'
import { locateEngine } from './locate.ts'
import { silentEngine } from './silent.ts'

/** How long a started engine may take until its socket answers. */
const START_DEADLINE_MS = 15_000
const POLL_MS = 20
/** Between two starts of an engine that leaves because another one has the home. */
const RELAUNCH_MS = 500
/** Log lines shown when an engine dies at start. */
const LOG_TAIL_LINES = 8

/**
 * For glibc: memory of this size and above goes back to the system when it is freed, whatever was freed before. By default each
 * large buffer raises both, and an idle engine keeps what its busiest moment had.
 */
const ALLOCATOR = { MALLOC_MMAP_THRESHOLD_: '131072', MALLOC_TRIM_THRESHOLD_: '131072' }

export interface EngineStart {
  readonly home: string
  readonly socket: string
  /** Program to run, when the caller names one. */
  readonly engine: string | undefined
  /** Whether the socket answers by now, and which process; null where that does not tell. */
  readonly answers: () => Promise<{ readonly heard: string; readonly pid: number | null }>
  readonly signal?: AbortSignal | undefined
}

/**
 * Starts the engine and waits until it answers. Two callers may do so at once: the engine's own lock lets one win, the loser
 * ends with 0, and both callers wait for the same socket. One that is not needed is ended: it might come to the lock only after the
 * other engine has left, and stay.
 */
export const startEngine = async (start: EngineStart): Promise<void> => {
  if (process.getuid?.() !== 0) throw needsRoot()
  const program = locateEngine(start.engine)
  const log = EngineLog.open(start.home)
  try {
    await waitForAnswer(start, () => launch(program, start.home, log.file), log)
  } finally {
    log.close()
  }
}

export const needsRoot = (): PyroError =>
  new PyroError('host.needs-root', 'Pyro needs root on this host to make sandboxes; nothing was changed', {
    hint: `sudo ${[process.argv0, ...process.argv.slice(1)].map(quoted).join(' ')}`,
  })

const quoted = (word: string): string => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`)

interface Launched {
  readonly child: ChildProcess
  /** Null while the process runs. */
  end: { readonly code: number | null; readonly signal: string | null; readonly error: Error | null } | null
}

const launch = (program: { file: string; args: readonly string[] }, home: string, log: number): Launched => {
  const child = spawn(program.file, program.args, {
    cwd: '/',
    detached: true,
    stdio: ['ignore', log, log],
    env: { ...settingsOf(process.env), ...ALLOCATOR, PYRO_HOME: home },
  })
  const launched: Launched = { child, end: null }
  child.once('error', (error) => (launched.end = { code: null, signal: null, error }))
  child.once('exit', (code, signal) => (launched.end ??= { code, signal, error: null }))
  child.unref()
  return launched
}

/** An empty variable is an unset one, for the engine as for those who look for its socket. */
const settingsOf = (env: NodeJS.ProcessEnv): NodeJS.ProcessEnv =>
  Object.fromEntries(Object.entries(env).filter(([name, value]) => value !== '' || !name.startsWith('PYRO_')))

const waitForAnswer = async (start: EngineStart, launchOne: () => Launched, log: EngineLog): Promise<void> => {
  const deadline = Date.now() + START_DEADLINE_MS
  let launched = launchOne()
  let launchedAt = Date.now()
  let isTaken = false
  while (Date.now() < deadline) {
    const { heard, pid } = await start.answers()
    if (heard === 'answer') return endUnneeded(launched, pid)
    const { end } = launched
    if (end !== null && end.code !== 0) throw startFailure(end, log)
    // It found another engine at this home, which may have been about to leave.
    isTaken ||= end !== null
    if (end !== null && Date.now() - launchedAt > RELAUNCH_MS) {
      launched = launchOne()
      launchedAt = Date.now()
    }
    await sleep(POLL_MS, undefined, start.signal === undefined ? {} : { signal: start.signal })
  }
  if (isTaken) throw silentEngine(start.socket, START_DEADLINE_MS)
  throw new PyroError(
    'engine.unreachable',
    `the engine did not answer on ${start.socket} within ${START_DEADLINE_MS / 1000} s`,
    { hint: 'pyro daemon logs', data: { log: tail(log.said()) } },
  )
}

/** It has not come to the lock yet, or is about to end. */
const endUnneeded = ({ child, end }: Launched, answering: number | null): void => {
  if (end === null && answering !== null && answering !== child.pid) child.kill('SIGKILL')
}

/** The engine's own typed error when it logged one, or why it could not; else its last words. */
const startFailure = (end: NonNullable<Launched['end']>, log: EngineLog): PyroError => {
  const said = log.said()
  const body = typedError(said)
  if (body !== null) return PyroError.fromBody(body)
  const refusal = log.refusal()
  if (refusal !== null) return refusal
  const how = end.error?.message ?? (end.signal === null ? `exit code ${end.code}` : `signal ${end.signal}`)
  return new PyroError('engine.unreachable', `the engine ended while starting (${how})${lastWords(said)}`, {
    hint: 'pyro daemon logs',
    data: { log: tail(said), signal: end.signal },
    cause: end.error ?? undefined,
  })
}

/** The line that names the error; below it an uncaught one has its stack. */
const lastWords = (log: string): string => {
  const lines = log.trimEnd().split('\n')
  const words = lines.findLast((line) => /^\w*Error\b/.test(line)) ?? lines.at(-1) ?? ''
  return words === '' ? ' and said nothing' : `: ${words}`
}

const tail = (log: string): string[] => log.trimEnd().split('\n').slice(-LOG_TAIL_LINES)

const typedError = (log: string): ErrorBody | null => {
  for (const line of log.trimEnd().split('\n').toReversed()) {
    if (!line.startsWith('{')) continue
    const body = errorBodyOf(line)
    if (body !== null) return body
  }
  return null
}

const errorBodyOf = (line: string): ErrorBody | null => {
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch (error) {
    if (error instanceof SyntaxError) return null
    throw error
  }
  // Either the body of an error as every surface has it, or a log entry with the code beside the message.
  const entry = value as { error?: unknown; code?: unknown; hint?: unknown }
  const body = typeof entry.error === 'object' && entry.error !== null ? (entry.error as Partial<ErrorBody>) : null
  const code = String(body?.code ?? entry.code)
  if (!isErrorCode(code)) return null
  return {
    code,
    message: body?.message ?? String(entry.error),
    hint: body?.hint ?? (typeof entry.hint === 'string' ? entry.hint : null),
    data: body?.data ?? null,
  }
}
