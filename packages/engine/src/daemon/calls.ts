import { isPyroError, PyroError, type ErrorBody, type OperationId } from '@pyro/protocol'
import { errorFields, type Log } from '../lib/log.ts'
import type { Store } from '../store/store.ts'

/** Errors that say nothing about the operation itself: a repeated call tries again. */
const NOT_KEPT = new Set<string>(['engine.unreachable', 'engine.version-mismatch', 'input.invalid', 'internal'])

/** Operations that undo what they had begun when they are cancelled. */
const UNDONE: ReadonlySet<OperationId> = new Set<OperationId>([
  'environment.import',
  'environment.pull',
  'workspace.create',
  'workspace.reset',
  'workspace.snapshot.create',
  'workspace.start',
  'workspace.update',
])
/** What others leave, where more can be said than that it stays. */
const LEFT: Partial<Record<OperationId, string>> = {
  'workspace.file.write': 'nothing was written',
  'workspace.sync.push': 'nothing was written',
}

export interface CallHead {
  readonly operation: OperationId
  readonly requestId: string | null
  /** Answered once: a repeated call of the same request id gets the first answer. */
  readonly once: boolean
}

interface InFlight {
  readonly operation: OperationId
  readonly controller: AbortController
  readonly outcome: Promise<unknown>
}

/** The calls that are under way, by request id: joined when repeated, cancelled when asked. */
export class Calls {
  readonly #store: Store
  readonly #log: Log
  readonly #inFlight = new Map<string, Set<InFlight>>()
  #count = 0

  constructor(store: Store, log: Log) {
    this.#store = store
    this.#log = log
  }

  get count(): number {
    return this.#count
  }

  /** Runs the call, or gives the answer that its request id already has. */
  run(head: CallHead, work: (signal: AbortSignal) => Promise<unknown>): Promise<unknown> {
    const { requestId, operation } = head
    if (requestId === null) return this.#counted(work(new AbortController().signal))
    if (head.once) {
      const answered = this.#answered(requestId, operation)
      if (answered !== null) return answered
    }
    const controller = new AbortController()
    const outcome = this.#counted(this.#remembered(head, work(controller.signal)))
    const call: InFlight = { operation, controller, outcome }
    const calls = this.#inFlight.get(requestId) ?? new Set()
    this.#inFlight.set(requestId, calls.add(call))
    return this.#untilSettled(requestId, call)
  }

  /** False when no call of this id is under way. */
  cancel(requestId: string): boolean {
    const calls = this.#inFlight.get(requestId)
    if (calls === undefined) return false
    for (const { controller, operation } of calls) {
      const left = UNDONE.has(operation)
        ? 'everything is as before'
        : (LEFT[operation] ?? 'what it had done stays done')
      controller.abort(new PyroError('request.cancelled', `${operation} was cancelled by the caller; ${left}`))
    }
    return true
  }

  #answered(requestId: string, operation: OperationId): Promise<unknown> | null {
    const [running] = this.#inFlight.get(requestId) ?? []
    const known = running ?? this.#store.requests.get(requestId)
    if (known === null || known === undefined) return null
    if (known.operation !== operation) {
      throw new PyroError('input.invalid', `the request id ${requestId} belongs to a call of ${known.operation}`, {
        data: { field: 'pyro-request' },
      })
    }
    if (running !== undefined) return running.outcome
    const { outcome } = known as NonNullable<ReturnType<Store['requests']['get']>>
    return 'result' in outcome ? Promise.resolve(outcome.result) : Promise.reject(PyroError.fromBody(outcome.error))
  }

  async #remembered(head: CallHead, outcome: Promise<unknown>): Promise<unknown> {
    if (!head.once) return outcome
    try {
      const result = await outcome
      this.#remember(head, { result })
      return result
    } catch (error) {
      if (isPyroError(error) && !NOT_KEPT.has(error.code)) this.#remember(head, { error: error.toBody() })
      throw error
    }
  }

  #remember(head: CallHead, outcome: { result: unknown } | { error: ErrorBody }): void {
    if (head.requestId === null) return
    try {
      this.#store.requests.put(head.requestId, head.operation, outcome)
    } catch (error) {
      // What was done is done: its caller has to hear of it, whether or not a repeated call will.
      this.#log.warn({ request: head.requestId, ...errorFields(error) }, 'an answer was not kept')
    }
  }

  async #counted<T>(work: Promise<T>): Promise<T> {
    this.#count++
    try {
      return await work
    } finally {
      this.#count--
    }
  }

  async #untilSettled(requestId: string, call: InFlight): Promise<unknown> {
    try {
      return await call.outcome
    } finally {
      const calls = this.#inFlight.get(requestId)
      calls?.delete(call)
      if (calls?.size === 0) this.#inFlight.delete(requestId)
    }
  }
}
