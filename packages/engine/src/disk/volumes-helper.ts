import { spawn, type ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import { PyroError, type ErrorCode } from '@pyro/protocol'
import { z } from 'zod'
import { helperMark } from '../process/helper-processes.ts'

/** What any request may take unless it says otherwise. */
const REQUEST_TIMEOUT_MS = 30_000
/** Copies and deletions of whole trees, allocation of the pool. */
export const TREE_TIMEOUT_MS = 15 * 60_000
const READY_TIMEOUT_MS = 10_000
/** What the helper may take to end after its stdin was closed, before it is killed. */
const CLOSE_TIMEOUT_MS = 6_000
/** A longer answer line is a defect of the helper. */
const LINE_LIMIT_BYTES = 64 * 1024 * 1024
const STDERR_LIMIT_BYTES = 8 * 1024

const readyLine = z.object({ ready: z.object({ protocol: z.literal(1) }) })
const answerLine = z.union([
  z.object({ id: z.int(), result: z.record(z.string(), z.unknown()) }),
  z.object({
    id: z.int(),
    error: z.object({ code: z.string(), errno: z.string().nullish(), message: z.string() }),
  }),
])

/** What the helper answered, as docs/guest-protocol.md lists it, or `lost` when it died under the request. */
export type VolumesErrorCode =
  | 'invalid'
  | 'not-found'
  | 'exists'
  | 'no-space'
  | 'not-supported'
  | 'permission'
  | 'read-only'
  | 'busy'
  | 'mismatch'
  | 'timed-out'
  | 'cancelled'
  | 'failed'
  | 'lost'

export class VolumesError extends Error {
  override readonly name = 'VolumesError'
  readonly code: VolumesErrorCode
  readonly errno: string | null

  constructor(code: VolumesErrorCode, errno: string | null, message: string) {
    super(message)
    this.code = code
    this.errno = errno
  }
}

export const isVolumesError = (error: unknown, ...codes: VolumesErrorCode[]): error is VolumesError =>
  error instanceof VolumesError && (codes.length === 0 || codes.includes(error.code))

const PYRO_CODES: Partial<Record<VolumesErrorCode, ErrorCode>> = {
  'no-space': 'disk.full',
  'not-supported': 'host.missing-tool',
  permission: 'host.needs-root',
  'read-only': 'path.unwritable',
  'timed-out': 'request.timed-out',
  cancelled: 'request.cancelled',
}

const HINTS: Partial<Record<ErrorCode, string>> = {
  'disk.full': 'free space on the host, or delete workspaces or snapshots',
  'host.needs-root': 'run Pyro as root on the host itself, or in a privileged container',
  'path.unwritable': 'dmesg may say what is wrong with the disk below the home; pyro doctor',
}

/** `what` says which step failed on what. */
export const toPyroError = (error: unknown, what: string): unknown => {
  if (!(error instanceof VolumesError)) return error
  const code = error.errno === 'EIO' ? 'path.unwritable' : (PYRO_CODES[error.code] ?? 'internal')
  return new PyroError(code, `${what}: ${error.message}`, { cause: error, hint: HINTS[code] })
}

/** Done twice they give what once gives; a new helper is asked again when the old one died under them. */
const REPEATABLE: ReadonlySet<string> = new Set([
  'cleaner.wait',
  'file.allocate',
  'file.identity',
  'filesystem.resize',
  'filesystem.sync',
  'host.probe',
  'loop.attach',
  'loop.find',
  'loop.resize',
  'mount.list',
  'qgroup.limit',
  'qgroup.list',
  'qgroup.usage',
  'quota.enable',
  'reflink.probe',
  'statfs',
  'subvolume.flush',
  'subvolume.set-readonly',
  'subvolume.show',
])

interface RequestOptions {
  readonly timeoutMs?: number
  readonly signal?: AbortSignal
}

interface Pending {
  readonly op: string
  readonly resolve: (result: Record<string, unknown>) => void
  readonly reject: (error: unknown) => void
}

interface Running {
  readonly child: ChildProcess
  readonly pending: Map<number, Pending>
  readonly exited: Promise<void>
}

/**
 * Client of `pyro-agent volumes`. The helper is started with the first request and again after it died; requests that were under
 * way then are repeated where that is the same as once, else they fail with `lost`, and the caller decides.
 */
export class VolumesHelper {
  readonly #agentPath: string
  #running: Promise<Running> | null = null
  #nextId = 1
  #closed = false

  constructor(agentPath: string) {
    this.#agentPath = agentPath
  }

  /** Pid of the helper, for the leak audit. */
  get pid(): number | null {
    return this.#pid
  }
  #pid: number | null = null

  async request<Result extends z.ZodType>(
    op: string,
    fields: Record<string, unknown>,
    result: Result,
    options: RequestOptions = {},
  ): Promise<z.infer<Result>> {
    try {
      return await this.#request(op, fields, result, options)
    } catch (error) {
      if (this.#closed || !REPEATABLE.has(op) || !isVolumesError(error, 'lost')) throw error
      return this.#request(op, fields, result, options)
    }
  }

  async #request<Result extends z.ZodType>(
    op: string,
    fields: Record<string, unknown>,
    result: Result,
    options: RequestOptions,
  ): Promise<z.infer<Result>> {
    options.signal?.throwIfAborted()
    const running = await this.#start()
    const id = this.#nextId++
    const answer = Promise.withResolvers<Record<string, unknown>>()
    running.pending.set(id, { op, resolve: answer.resolve, reject: answer.reject })
    const timer = setTimeout(() => {
      this.#send(running, { id: this.#nextId++, op: 'cancel', request: id })
      answer.reject(new VolumesError('timed-out', null, `${op} did not end in time`))
    }, options.timeoutMs ?? REQUEST_TIMEOUT_MS)
    const abort = () => this.#send(running, { id: this.#nextId++, op: 'cancel', request: id })
    options.signal?.addEventListener('abort', abort, { once: true })
    try {
      this.#send(running, { id, op, ...fields })
      return result.parse(await answer.promise)
    } catch (error) {
      if (isVolumesError(error, 'cancelled')) options.signal?.throwIfAborted()
      throw error
    } finally {
      clearTimeout(timer)
      options.signal?.removeEventListener('abort', abort)
      running.pending.delete(id)
    }
  }

  /** Ends the helper after the requests that are under way. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true
    const starting = this.#running
    if (starting === null) return
    this.#running = null
    const running = await starting
    running.child.stdin?.end()
    const timer = setTimeout(() => running.child.kill('SIGKILL'), CLOSE_TIMEOUT_MS)
    await running.exited
    clearTimeout(timer)
  }

  #send(running: Running, message: Record<string, unknown>): void {
    running.child.stdin?.write(JSON.stringify(message) + '\n')
  }

  #start(): Promise<Running> {
    if (this.#closed) throw new VolumesError('lost', null, 'the disk store is closed')
    this.#running ??= this.#spawn().catch((error: unknown) => {
      this.#running = null
      throw error
    })
    return this.#running
  }

  async #spawn(): Promise<Running> {
    const child = spawn(this.#agentPath, ['volumes'], {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { PATH: process.env['PATH'], ...helperMark() },
    })
    const pending = new Map<number, Pending>()
    const ready = Promise.withResolvers<void>()
    const ended = Promise.withResolvers<void>()
    let stderr = ''
    const lost = (reason: string) => {
      const error = new VolumesError(
        'lost',
        null,
        `the volumes helper ${reason}${stderr === '' ? '' : `: ${stderr.trim()}`}`,
      )
      ready.reject(error)
      for (const request of pending.values()) request.reject(error)
      pending.clear()
      this.#pid = null
      ended.resolve()
    }
    child.on('error', (error) => lost(`cannot be started (${error.message})`))
    child.on('close', (code, signal) => {
      this.#running = null
      lost(`ended (${signal ?? code})`)
    })
    // EPIPE: the close event tells what happened.
    child.stdin.on('error', (error) => (stderr += error.message))
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr = (stderr + text).slice(-STDERR_LIMIT_BYTES)))
    const deadline = setTimeout(() => {
      child.kill('SIGKILL')
      ready.reject(new VolumesError('timed-out', null, 'the volumes helper did not become ready'))
    }, READY_TIMEOUT_MS)
    createInterface({ input: child.stdout, crlfDelay: Infinity }).on('line', (line) => {
      try {
        this.#onLine(line, pending, ready.resolve)
      } catch (error) {
        stderr += error instanceof Error ? error.message : String(error)
        child.kill('SIGKILL')
      }
    })
    try {
      await ready.promise
    } finally {
      clearTimeout(deadline)
    }
    this.#pid = child.pid ?? null
    return { child, pending, exited: ended.promise }
  }

  #onLine(line: string, pending: Map<number, Pending>, onReady: () => void): void {
    if (line.length > LINE_LIMIT_BYTES) throw new VolumesError('failed', null, 'answer is too long')
    const message: unknown = JSON.parse(line)
    if (readyLine.safeParse(message).success) {
      onReady()
      return
    }
    const answer = answerLine.parse(message)
    const request = pending.get(answer.id)
    if (request === undefined) return
    if ('result' in answer) request.resolve(answer.result)
    else
      request.reject(
        new VolumesError(answer.error.code as VolumesErrorCode, answer.error.errno ?? null, answer.error.message),
      )
  }
}
