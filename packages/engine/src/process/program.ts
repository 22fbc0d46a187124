import { spawn } from 'node:child_process'
import { PyroError } from '@pyro/protocol'
import { errnoOf } from './identity.ts'

/** Of each stream of a program that is run for its answer. */
const DEFAULT_OUTPUT_LIMIT_BYTES = 1024 * 1024

export interface ProgramOptions {
  readonly timeoutMs: number
  readonly signal?: AbortSignal
  readonly env?: NodeJS.ProcessEnv
  readonly cwd?: string
  /** Written to its stdin; none: /dev/null. */
  readonly input?: string | Uint8Array
  readonly outputLimitBytes?: number
}

export interface ProgramResult {
  /** Null when a signal ended it. */
  readonly exitCode: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs a program to its end for a short answer. A non-zero exit is a result; a missing program and a deadline are errors. */
export function runProgram(file: string, args: readonly string[], options: ProgramOptions): Promise<ProgramResult> {
  const limit = options.outputLimitBytes ?? DEFAULT_OUTPUT_LIMIT_BYTES
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, {
      stdio: [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
      ...(options.env === undefined ? {} : { env: options.env }),
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    })
    let failure: unknown = null
    const end = (reason: unknown): void => {
      failure ??= reason
      child.kill('SIGKILL')
    }
    const deadline = setTimeout(() => {
      end(new PyroError('request.timed-out', `${file} did not end within ${options.timeoutMs} ms and was killed`))
    }, options.timeoutMs)
    const abort = (): void => end(options.signal?.reason)
    options.signal?.addEventListener('abort', abort)
    if (options.signal?.aborted === true) abort()
    const stdout = collect(child.stdout, limit, () => end(tooMuch(file, limit)))
    const stderr = collect(child.stderr, limit, () => end(tooMuch(file, limit)))
    const settle = (): void => {
      clearTimeout(deadline)
      options.signal?.removeEventListener('abort', abort)
    }
    child.once('error', (error) => {
      settle()
      reject(errnoOf(error) === 'ENOENT' ? missing(file, error) : error)
    })
    child.once('close', (exitCode, signal) => {
      settle()
      if (failure === null) resolve({ exitCode, signal, stdout: stdout(), stderr: stderr() })
      else reject(failure instanceof Error ? failure : new Error(`${file} was ended`, { cause: failure }))
    })
    // A program that ends without reading its input is judged by its exit, not by our broken pipe.
    child.stdin?.on('error', (error) => {
      if (errnoOf(error) !== 'EPIPE') end(error)
    })
    child.stdin?.end(options.input)
  })
}

const missing = (file: string, cause: unknown): PyroError =>
  new PyroError('host.missing-tool', `the program ${file} is not installed on this host`, { cause })

const tooMuch = (file: string, limit: number): Error => new Error(`${file} printed more than ${limit} bytes`)

function collect(stream: NodeJS.ReadableStream | null, limit: number, overflow: () => void): () => string {
  const chunks: Buffer[] = []
  let size = 0
  stream?.on('data', (chunk: Buffer) => {
    size += chunk.length
    if (size > limit) overflow()
    else chunks.push(chunk)
  })
  return () => Buffer.concat(chunks).toString('utf8')
}
