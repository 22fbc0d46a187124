import { isPyroError, PyroError, type ErrorBody, type OperationId } from '@pyro/protocol'
import type { Store } from '../store/store.ts'

/** Errors that say nothing about the operation itself: a repeated call tries again. */
const NOT_KEPT = new Set<string>(['engine.unreachable', 'engine.version-mismatch', 'input.invalid', 'internal'])

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
  readonly #inFlight = new Map<string, Set<InFlight>>()
  #count = 0

  constructor(store: Store) {
    this.#store = store
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
      controller.abort(new PyroError('request.cancelled', `${operation} was cancelled by the caller`))
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
    if (head.requestId !== null) this.#store.requests.put(head.requestId, head.operation, outcome)
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
