/** How long what failed for a reason that may pass (no space, a host under load) is not tried again. */
const RETRY_MS = 60_000

/** What failed lately and need not have failed for good, by a key of the caller's. */
export class PassingFailures<T> {
  readonly #nowMs: () => number
  readonly #seen = new Map<string, { readonly failure: T; readonly atMs: number }>()

  constructor(nowMs: () => number = () => performance.now()) {
    this.#nowMs = nowMs
  }

  note(key: string, failure: T): T {
    this.#seen.set(key, { failure, atMs: this.#nowMs() })
    return failure
  }

  /** Null: it is time to try. */
  of(key: string): T | null {
    const seen = this.#seen.get(key)
    if (seen === undefined) return null
    if (this.#nowMs() - seen.atMs < RETRY_MS) return seen.failure
    this.#seen.delete(key)
    return null
  }
}
