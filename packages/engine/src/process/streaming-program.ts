import { spawn } from 'node:child_process'
import type { Readable, Writable } from 'node:stream'
import { PyroError } from '@pyro/protocol'
import { errnoOf } from './identity.ts'

/** The end of what a program wrote to stderr, for messages and the log. */
const STDERR_TAIL_BYTES = 16 * 1024

export interface StreamingProgramOptions {
  readonly env?: NodeJS.ProcessEnv
  readonly cwd?: string
  /** `pipe`, or an open descriptor that becomes its stdin. */
  readonly stdin: 'ignore' | 'pipe' | number
  /** Gets each piece of stderr as it comes. */
  readonly onStderr?: (text: string) => void
  /** Aborting kills the program. */
  readonly signal?: AbortSignal
}

export interface ProgramEnd {
  /** Null when a signal ended it. */
  readonly exitCode: number | null
  readonly signal: NodeJS.Signals | null
  readonly stderrTail: string
}

/** A program whose output is read while it runs. The owner awaits `ended`, which always settles after `kill`. */
export interface StreamingProgram {
  /** Null unless `stdin` is `pipe`. Its errors are silent: the end of the program tells. */
  readonly stdin: Writable | null
  readonly stdout: Readable
  /** Rejects only when the program could not be started. */
  readonly ended: Promise<ProgramEnd>
  kill(): void
}

export const startStreamingProgram = (
  file: string,
  args: readonly string[],
  options: StreamingProgramOptions,
): StreamingProgram => {
  options.signal?.throwIfAborted()
  const child = spawn(file, args, {
    stdio: [options.stdin, 'pipe', 'pipe'],
    ...(options.env === undefined ? {} : { env: options.env }),
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  })
  let stderrTail = ''
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderrTail = (stderrTail + text).slice(-STDERR_TAIL_BYTES)
    options.onStderr?.(text)
  })
  child.stdin?.on('error', (error) => {
    if (errnoOf(error) !== 'EPIPE') stderrTail += error.message
  })
  const kill = (): void => void child.kill('SIGKILL')
  options.signal?.addEventListener('abort', kill, { once: true })
  const ended = new Promise<ProgramEnd>((resolve, reject) => {
    child.once('error', (error) => {
      reject(
        errnoOf(error) === 'ENOENT'
          ? new PyroError('host.missing-tool', `the program ${file} is not installed on this host`, { cause: error })
          : error,
      )
    })
    child.once('close', (exitCode, signal) => {
      options.signal?.removeEventListener('abort', kill)
      resolve({ exitCode, signal, stderrTail })
    })
  })
  // Whoever only reads stdout must not crash the engine with a rejection nobody waits for yet.
  ended.catch((_error: unknown) => undefined)
  return { stdin: child.stdin, stdout: child.stdout as Readable, ended, kill }
}
