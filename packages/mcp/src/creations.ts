import type { PyroError } from '@pyro/protocol'

/** How long a create that failed after its call had answered is reported. */
const FAILURE_KEPT_MS = 10 * 60_000
/** Creates remembered at one time. */
const CREATIONS_LIMIT = 256

export interface Creation {
  readonly name: string
  readonly startedAtMs: number
  /** What is being done now, e.g. `pulling debian:12 (62%)`. */
  step: string
  failure: PyroError | null
  failedAtMs: number
}

/** Creates that outlive their call: the workspace may not be listed yet, or never be. */
export class Creations {
  readonly #byName = new Map<string, Creation>()

  begin(name: string): Creation {
    const creation: Creation = { name, startedAtMs: Date.now(), step: 'starting', failure: null, failedAtMs: 0 }
    this.#byName.set(name, creation)
    for (const oldest of this.#byName.keys()) {
      if (this.#byName.size <= CREATIONS_LIMIT) break
      this.#byName.delete(oldest)
    }
    return creation
  }

  succeeded(creation: Creation): void {
    if (this.#byName.get(creation.name) === creation) this.#byName.delete(creation.name)
  }

  failed(creation: Creation, failure: PyroError): void {
    creation.failure = failure
    creation.failedAtMs = Date.now()
  }

  get(name: string): Creation | undefined {
    return this.all().find((creation) => creation.name === name)
  }

  all(): readonly Creation[] {
    for (const [name, { failure, failedAtMs }] of this.#byName) {
      if (failure !== null && Date.now() - failedAtMs > FAILURE_KEPT_MS) this.#byName.delete(name)
    }
    return [...this.#byName.values()]
  }
}
