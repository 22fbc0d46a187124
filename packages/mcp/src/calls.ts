/**
 * A tool call answers within the time that hosts wait for. What takes longer goes on, and is found again: the same call,
 * repeated, waits for the work that is under way instead of doing it twice.
 */
/** Hosts commonly give up after 30 or 60 s. */
export const CALL_LIMIT_MS = 25_000
/** What is left of that for looking up and writing the answer. */
const ANSWER_RESERVE_MS = 1_000
/** How long the outcome of work that nobody waited for is kept. */
const OUTCOME_KEPT_MS = 10 * 60_000
/** Works under way or kept at one time; the oldest outcome goes first. */
const WORKS_LIMIT = 256

/** Settles with the outcome, or with null when it takes longer. */
export const outcomeWithin = async <T>(promise: Promise<T>, limitMs: number): Promise<{ readonly value: T } | null> => {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<null>((resolve) => (timer = setTimeout(resolve, limitMs, null)))
  try {
    return await Promise.race([promise.then((value) => ({ value })), late])
  } finally {
    clearTimeout(timer)
  }
}

export type Within<T> = { readonly done: true; readonly value: T } | { readonly done: false; readonly sinceMs: number }

interface Work {
  readonly promise: Promise<unknown>
  readonly controller: AbortController
  readonly startedAtMs: number
  endedAtMs: number | null
  /** True once a call has answered without the outcome: only then may another one join. */
  left: boolean
}

export class Calls {
  readonly #limitMs: number
  readonly #works = new Map<string, Work>()

  constructor(limitMs = CALL_LIMIT_MS) {
    this.#limitMs = limitMs
  }

  /** How long a call may wait that asks for `askedMs`. */
  longestWaitMs(askedMs = Number.POSITIVE_INFINITY): number {
    return Math.min(askedMs, Math.max(0, this.#limitMs - ANSWER_RESERVE_MS))
  }

  /**
   * Waits for `start` up to the limit. `key` says which calls are the same. While somebody waits, an abort of `signal` aborts the
   * work; once it was left to itself it goes on to its end.
   */
  async within<T>(
    key: string,
    signal: AbortSignal,
    start: (signal: AbortSignal) => Promise<T>,
    limitMs = this.longestWaitMs(),
  ): Promise<Within<T>> {
    const work = this.#join(key) ?? this.#begin(start)
    work.left = false
    const abort = (): void => work.controller.abort(signal.reason)
    if (signal.aborted) abort()
    signal.addEventListener('abort', abort, { once: true })
    try {
      const outcome = await outcomeWithin(work.promise, limitMs)
      if (outcome !== null) return { done: true, value: outcome.value as T }
      work.left = true
      this.#keep(key, work)
      return { done: false, sinceMs: Date.now() - work.startedAtMs }
    } finally {
      signal.removeEventListener('abort', abort)
    }
  }

  /** Aborts everything that is under way; for the end of the server. */
  abort(): void {
    for (const { controller } of this.#works.values()) controller.abort()
    this.#works.clear()
  }

  #join(key: string): Work | undefined {
    const work = this.#works.get(key)
    if (work === undefined || !work.left) return undefined
    this.#works.delete(key)
    return work.endedAtMs !== null && Date.now() - work.endedAtMs > OUTCOME_KEPT_MS ? undefined : work
  }

  #begin<T>(start: (signal: AbortSignal) => Promise<T>): Work {
    const controller = new AbortController()
    const promise = start(controller.signal)
    const work: Work = { promise, controller, startedAtMs: Date.now(), endedAtMs: null, left: false }
    const ended = (): void => void (work.endedAtMs = Date.now())
    promise.then(ended, ended)
    return work
  }

  #keep(key: string, work: Work): void {
    this.#works.set(key, work)
    for (const [oldest, { endedAtMs }] of this.#works) {
      if (this.#works.size <= WORKS_LIMIT) return
      if (endedAtMs !== null) this.#works.delete(oldest)
    }
  }
}
