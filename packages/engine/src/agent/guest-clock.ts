import type { CallOptions } from './agent-client.ts'

/**
 * A message that was under way for longer said what time it was too late. Together with what the agent corrects slowly (50 ms,
 * guest/internal/boot) the clock is right within 100 ms.
 */
const ROUND_TRIP_MS = 50
/** Of messages, on a host so busy that none is that fast. */
const TRIES = 5
/** How long a clock is trusted: it runs a little faster or slower than the host's, and root inside may set it. */
const TRUST_MS = 10_000
/** Between two clocks of the host: it slept, or its time was set. */
const JUMP_MS = 20

export interface HostClocks {
  /** Milliseconds since 1970. */
  wallMs(): number
  /** Counts on whatever the time is set to, and stands while the host sleeps. */
  steadyMs(): number
}

const HOST: HostClocks = { wallMs: () => Date.now(), steadyMs: () => performance.now() }

/** Keeps the clock of a guest that has one of its own at the host's. */
export class GuestClock {
  readonly #tell: (options?: CallOptions) => Promise<void>
  readonly #host: HostClocks
  /** Null: nothing is known of it. */
  #set: { readonly atMs: number; readonly offsetMs: number } | null = null
  #underWay: Promise<void> | null = null

  /** `tell` sends the guest what time it is. */
  constructor(tell: (options?: CallOptions) => Promise<void>, host: HostClocks = HOST) {
    this.#tell = tell
    this.#host = host
  }

  /** The guest may have stood still. */
  doubt(): void {
    this.#set = null
  }

  /** Null when nothing speaks against the guest's clock, else it settles when that is right: no program is started before. */
  makeRight(options?: CallOptions): Promise<void> | null {
    if (this.#set !== null && Math.abs(this.#offsetMs() - this.#set.offsetMs) < JUMP_MS) return null
    return this.#share(options)
  }

  /** To be called now and then. A guest that does not answer has the wrong time until it does. */
  keep(): void {
    const isTrusted = this.#set !== null && this.#host.steadyMs() - this.#set.atMs < TRUST_MS
    const made = isTrusted ? this.makeRight() : this.#share()
    made?.catch(noOneWaits)
  }

  #share(options?: CallOptions): Promise<void> {
    this.#underWay ??= this.#bringRight(options).finally(() => (this.#underWay = null))
    return this.#underWay
  }

  async #bringRight(options: CallOptions | undefined): Promise<void> {
    for (let tries = 1; ; tries += 1) {
      const [atMs, offsetMs] = [this.#host.steadyMs(), this.#offsetMs()]
      await this.#tell(options)
      const tookMs = this.#host.steadyMs() - atMs
      if (tookMs > ROUND_TRIP_MS && tries < TRIES) continue
      this.#set = { atMs, offsetMs }
      return
    }
  }

  #offsetMs(): number {
    return this.#host.wallMs() - this.#host.steadyMs()
  }
}

const noOneWaits = (): void => undefined
