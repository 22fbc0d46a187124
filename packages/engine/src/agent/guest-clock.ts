import type { AgentClient, CallOptions } from './agent-client.ts'

/**
 * An answer that took longer says too little of when it was given: at half the time, give or take as much. Together with what
 * the agent corrects slowly (75 ms, guest/internal/boot) the clock is right within 100 ms.
 */
const ROUND_TRIP_MS = 50
/** Of asking, on a host so busy that none is that fast. */
const TRIES = 5
/** What a clock may be off by when it jumped to the time of a hello: nothing that is corrected slowly comes to it. */
const HELLO_ERROR_MS = 75
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

/** A reading of the guest's uptime, and when it arrived by the host's steady clock. */
interface HeardUptime {
  readonly uptimeUs: number
  readonly atMs: number
}

const HOST: HostClocks = { wallMs: () => Date.now(), steadyMs: () => performance.now() }

/** Keeps the clock of a guest that has one of its own at the host's. */
export class GuestClock {
  readonly #guest: Pick<AgentClient, 'uptimeUs' | 'setClock'>
  readonly #host: HostClocks
  /** Null: nothing is known of it. */
  #set: { readonly atMs: number; readonly offsetMs: number } | null = null
  #underWay: Promise<void> | null = null
  /** Came with a hello that nothing was made of yet. */
  #heard: HeardUptime | null = null

  constructor(guest: Pick<AgentClient, 'uptimeUs' | 'setClock'>, host: HostClocks = HOST) {
    this.#guest = guest
    this.#host = host
  }

  /** The guest may have stood still. */
  doubt(): void {
    this.#set = null
  }

  /** A link is there, with another engine perhaps between it and the last one. */
  hear(uptimeUs: number): void {
    this.doubt()
    this.#heard = { uptimeUs, atMs: this.#host.steadyMs() }
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

  /** The guest is told what time it was when it answered: what waits in the queue of a VMM that is frozen does not grow old. */
  async #bringRight(options: CallOptions | undefined): Promise<void> {
    const heard = this.#heard
    this.#heard = null
    if (heard !== null && (await this.#jump(heard, options))) return
    for (let tries = 1; ; tries += 1) {
      const [atMs, offsetMs] = [this.#host.steadyMs(), this.#offsetMs()]
      const uptimeUs = await this.#guest.uptimeUs(options)
      const answeredMs = this.#host.steadyMs()
      if (answeredMs - atMs > ROUND_TRIP_MS && tries < TRIES) continue
      const unixMs = (atMs + answeredMs) / 2 + offsetMs
      await this.#guest.setClock({ uptimeUs, unixUs: Math.round(unixMs * 1000) }, options)
      // The machine itself may have stood still meanwhile, and its uptime with it.
      if (this.#host.steadyMs() - answeredMs > ROUND_TRIP_MS && tries < TRIES) continue
      this.#set = { atMs, offsetMs }
      return
    }
  }

  /**
   * Has a clock that is far off jump to the time of a hello. That was read before it arrived, nobody knows how long; but the answer says
   * how much time passed for the guest from then to when it acted, which was while it was being told.
   */
  async #jump(heard: HeardUptime, options: CallOptions | undefined): Promise<boolean> {
    const [toldMs, offsetMs] = [this.#host.steadyMs(), this.#offsetMs()]
    const unixUs = Math.round((heard.atMs + offsetMs) * 1000)
    const { uptimeUs, jumped } = await this.#guest.setClock({ uptimeUs: heard.uptimeUs, unixUs }, options)
    const passedMs = (uptimeUs - heard.uptimeUs) / 1000
    const errorMs = Math.max(passedMs - (toldMs - heard.atMs), this.#host.steadyMs() - heard.atMs - passedMs)
    if (!jumped || errorMs > HELLO_ERROR_MS) return false
    this.#set = { atMs: toldMs, offsetMs }
    return true
  }

  #offsetMs(): number {
    return this.#host.wallMs() - this.#host.steadyMs()
  }
}

const noOneWaits = (): void => undefined
