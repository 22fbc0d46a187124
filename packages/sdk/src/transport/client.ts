import { setTimeout as sleep } from 'node:timers/promises'
import { PyroError } from '@pyro/protocol/client'
import type { InputOf, OperationId, ResultOf } from '@pyro/protocol'
import { ROUTES } from '../generated/routes.ts'
import { resolveHome, socketOfHome } from '../engine/home.ts'
import { EngineGone } from './engine-gone.ts'
import { Wire } from './exchange.ts'
import { attemptStream, type Sink } from './stream.ts'
import type { FrameSender, Upload } from './upload.ts'

const crypto = process.getBuiltinModule('node:crypto')

/** How long a call goes on finding an engine after it lost one. */
const RECONNECT_DEADLINE_MS = 60_000
/** An engine that a call brings down again and again is not started for ever. */
const RECONNECT_ATTEMPTS = 8
const RECONNECT_PAUSE_MS = 100
/** How long a cancelled call waits for the engine's last word. */
const CANCEL_ANSWER_MS = 15_000
const CANCEL_REPEAT_MS = 100
/** How long "does an engine answer here" may take. */
const PING_DEADLINE_MS = 2_000

export interface ClientOptions {
  /** State folder of the engine. Default: `PYRO_HOME`, else `/var/lib/pyro` for root and the XDG data folder for others. */
  readonly home?: string | undefined
  /** Socket of a running engine; then none is started. */
  readonly socket?: string | undefined
  /** Engine program. Default: `PYRO_ENGINE`, the installed `@pyro/engine`, `pyro-engine` on PATH. */
  readonly engine?: string | undefined
  /** False: a missing engine is `engine.unreachable` instead of being started. */
  readonly start?: boolean | undefined
  /** Called when a call had to start its stopped workspace first, with the name of the workspace. */
  readonly onWorkspaceStarted?: ((name: string) => void) | undefined
}

/** What cancellation needs to know of a call. */
export interface CallId {
  readonly operation: OperationId
  readonly requestId: string
}

export interface CallOptions {
  readonly signal?: AbortSignal | undefined
}

export interface StreamOptions extends CallOptions {
  readonly sink?: Sink | undefined
  readonly upload?: Upload | undefined
  /** Called when a stream starts over because the engine was lost: what the sink got so far comes again. */
  readonly restarted?: (() => void | Promise<void>) | undefined
  readonly opened?: ((sender: FrameSender) => void) | undefined
}

interface Heard {
  readonly heard: 'answer' | 'silence' | 'nobody'
  readonly pid: number | null
}

/**
 * Calls operations of one engine, starting it when it is not there. A call outlives its engine: it is repeated with the same
 * request id, which the engine answers once.
 */
export class Client {
  readonly home: string
  readonly socket: string
  readonly wire: Wire
  readonly #engine: string | undefined
  readonly #mayStart: boolean

  constructor(options: ClientOptions = {}) {
    this.home = resolveHome({ home: options.home })
    this.socket = options.socket ?? socketOfHome(this.home)
    this.wire = new Wire(this.socket, { onStarted: options.onWorkspaceStarted })
    this.#engine = options.engine
    this.#mayStart = options.start ?? options.socket === undefined
  }

  /**
   * Makes sure that an engine answers.
   *
   * @throws PyroError `engine.unreachable`, `engine.not-installed`, `host.needs-root`, `request.cancelled`
   */
  async ensureEngine(signal?: AbortSignal): Promise<void> {
    if (await this.answers()) return
    if (!this.#mayStart) throw noEngine(this.socket)
    const { startEngine } = await import('../engine/start.ts')
    try {
      await startEngine({
        home: this.home,
        socket: this.socket,
        engine: this.#engine,
        answers: () => this.#hear(PING_DEADLINE_MS),
        signal,
      })
    } catch (error) {
      if (error instanceof PyroError || signal?.aborted !== true) throw error
      throw startCancelled(error)
    }
  }

  /** True when an engine answers, of whatever version. */
  async answers(): Promise<boolean> {
    return (await this.ping()) === 'answer'
  }

  /** Whether an engine answers, of whatever version; `silence` is one that has the socket and says nothing. */
  async ping(deadlineMs: number = PING_DEADLINE_MS, caller?: AbortSignal): Promise<'answer' | 'silence' | 'nobody'> {
    return (await this.#hear(deadlineMs, caller)).heard
  }

  /** The pid is null where nobody tells one. */
  async #hear(deadlineMs: number, caller?: AbortSignal): Promise<Heard> {
    this.wire.refuseClosed()
    const late = AbortSignal.timeout(deadlineMs)
    const signal = caller === undefined ? late : AbortSignal.any([late, caller])
    try {
      const head = { operation: 'engine.status', input: {}, requestId: newRequestId() } as const
      const { pid } = (await this.wire.unary(head, signal)) as ResultOf<'engine.status'>
      return { heard: 'answer', pid }
    } catch (error) {
      if (error instanceof EngineGone) {
        if (caller?.aborted === true) throw cancelled('engine.status', 'nothing was changed')
        return { heard: late.aborted ? 'silence' : 'nobody', pid: null }
      }
      if (isForbidden(error)) throw await socketForbidden()
      if (error instanceof PyroError) return { heard: 'answer', pid: null }
      throw error
    }
  }

  /**
   * Whether an engine is there, which is then one that answers.
   *
   * @throws PyroError `engine.unreachable` when one is there that stays silent
   */
  async isThere(deadlineMs: number = PING_DEADLINE_MS, signal?: AbortSignal): Promise<boolean> {
    const heard = await this.ping(deadlineMs, signal)
    if (heard !== 'silence') return heard === 'answer'
    const { silentEngine } = await import('../engine/silent.ts')
    throw silentEngine(this.socket, deadlineMs)
  }

  /** A unary operation. */
  async call<Id extends OperationId>(
    operation: Id,
    input: InputOf<Id>,
    options: CallOptions = {},
  ): Promise<ResultOf<Id>> {
    const head = { operation, input: input as Record<string, unknown>, requestId: newRequestId() }
    const result = await this.cancellable(head, options.signal, (signal) =>
      this.reconnecting(() => this.wire.unary(head, signal), signal),
    )
    return result as ResultOf<Id>
  }

  /** A unary operation, tried once: neither started nor repeated. */
  async once<Id extends OperationId>(
    operation: Id,
    input: InputOf<Id>,
    options: CallOptions = {},
  ): Promise<ResultOf<Id>> {
    const head = { operation, input: input as Record<string, unknown>, requestId: newRequestId() }
    try {
      return (await this.wire.unary(head, options.signal)) as ResultOf<Id>
    } catch (error) {
      if (!(error instanceof EngineGone)) throw error
      if (options.signal?.aborted !== true) throw unreachable(this.socket, error)
      throw cancelled(operation, outcomeOf(operation))
    }
  }

  /** A streaming operation that may be started over when the engine is lost. */
  async stream<Id extends OperationId>(
    operation: Id,
    input: InputOf<Id>,
    options: StreamOptions = {},
  ): Promise<ResultOf<Id>> {
    const head = { operation, input: input as Record<string, unknown>, requestId: newRequestId() }
    let attempts = 0
    const result = await this.cancellable(head, options.signal, (signal) =>
      this.reconnecting(async () => {
        if (attempts++ > 0) await options.restarted?.()
        const { upload, opened } = options
        return attemptStream(this.wire, { head, sink: options.sink ?? {}, upload, opened, signal })
      }, signal),
    )
    return result as ResultOf<Id>
  }

  /**
   * Runs a call until an engine has answered it: `attempt` is repeated when the engine was lost and another one answers. While
   * `progress` grows from one loss to the next, the call may go on for ever.
   */
  async reconnecting<T>(attempt: () => Promise<T>, signal?: AbortSignal, progress?: () => number): Promise<T> {
    let losses = newLosses(progress)
    for (;;) {
      try {
        return await attempt()
      } catch (error) {
        if (isForbidden(error)) throw await socketForbidden()
        if (!(error instanceof EngineGone) || signal?.aborted === true) throw error
        if (this.wire.closed) throw closedMeanwhile(error)
        if (error.refused && !this.#mayStart && losses.count === 0) throw noEngine(this.socket)
        if ((progress?.() ?? 0) > losses.progress) losses = newLosses(progress)
        losses.count++
        const tooLong = Date.now() - losses.since > RECONNECT_DEADLINE_MS
        if (tooLong || losses.count > RECONNECT_ATTEMPTS) throw unreachable(this.socket, error)
        // The first loss usually means that no engine was started yet: no pause then.
        if (losses.count > 1) await sleep(RECONNECT_PAUSE_MS * losses.count)
        if (this.#mayStart) await this.#startAgain(signal)
      }
    }
  }

  /** An engine that is killed while it starts is one more loss. */
  async #startAgain(signal: AbortSignal | undefined): Promise<void> {
    try {
      await this.ensureEngine(signal)
    } catch (error) {
      if (!(error instanceof PyroError) || typeof error.data?.['signal'] !== 'string') throw error
    }
  }

  /**
   * Turns an abort into the engine's own cancellation: the call ends with what the engine answers, be it `request.cancelled`
   * or the result of a call past the point of return. `run` gets a signal that fires when the engine stays silent; `cancel` says
   * how to cancel when it is not by request id.
   */
  async cancellable<T>(
    head: CallId,
    signal: AbortSignal | undefined,
    run: (signal: AbortSignal) => Promise<T>,
    cancel: (ended: AbortSignal) => Promise<void> = (ended) => this.cancelRequest(head, ended),
  ): Promise<T> {
    if (signal === undefined) return run(new AbortController().signal)
    if (signal.aborted) throw cancelled(head.operation, 'nothing was changed')
    const cut = new AbortController()
    const ended = new AbortController()
    let timer: NodeJS.Timeout | undefined
    const abort = (): void => {
      if (!ROUTES[head.operation].mutates) return cut.abort()
      timer = setTimeout(() => cut.abort(), CANCEL_ANSWER_MS)
      cancel(ended.signal).catch(() => cut.abort())
    }
    signal.addEventListener('abort', abort, { once: true })
    try {
      return await run(cut.signal)
    } catch (error) {
      if (!cut.signal.aborted) throw error
      throw cancelled(head.operation, outcomeOf(head.operation))
    } finally {
      ended.abort()
      clearTimeout(timer)
      signal.removeEventListener('abort', abort)
    }
  }

  /** Asks again while the engine does not know the request: it may not have read it yet. */
  async cancelRequest(head: CallId, ended: AbortSignal): Promise<void> {
    while (!ended.aborted) {
      const input = { requestId: head.requestId }
      const answer = await this.wire.unary({ operation: 'request.cancel', input, requestId: newRequestId() })
      if ((answer as ResultOf<'request.cancel'>).cancelled) return
      await sleep(CANCEL_REPEAT_MS)
    }
  }

  close(): void {
    this.wire.close()
  }
}

const newLosses = (progress?: () => number) => ({ count: 0, since: Date.now(), progress: progress?.() ?? 0 })

const isForbidden = (error: unknown): boolean => {
  const { code, syscall } = error as NodeJS.ErrnoException
  return code === 'EACCES' && syscall === 'connect'
}

const noEngine = (socket: string): PyroError =>
  new PyroError('engine.unreachable', `no engine answers on ${socket}`, { hint: 'pyro daemon start' })

export const newRequestId = (): string => crypto.randomUUID()

export const cancelled = (operation: OperationId, outcome: string): PyroError =>
  new PyroError('request.cancelled', `${operation} was cancelled by the caller; ${outcome}`)

/** What is known of a call that the engine has not answered. */
const outcomeOf = (operation: OperationId): string =>
  ROUTES[operation].mutates ? 'the engine did not say what became of it' : 'nothing was changed'

const startCancelled = (cause: unknown): PyroError =>
  new PyroError('request.cancelled', 'starting the engine was cancelled by the caller; it may come up all the same', {
    hint: 'pyro daemon status',
    cause,
  })

const closedMeanwhile = (cause: EngineGone): PyroError =>
  new PyroError(
    'request.cancelled',
    'the client was closed before the engine had answered; what it had begun goes on',
    {
      cause,
    },
  )

const unreachable = (socket: string, cause: unknown): PyroError =>
  new PyroError('engine.unreachable', `the engine on ${socket} went away and did not come back`, {
    hint: 'pyro daemon logs',
    cause,
  })

const socketForbidden = async (): Promise<PyroError> => {
  const { needsRoot } = await import('../engine/start.ts')
  return needsRoot()
}
