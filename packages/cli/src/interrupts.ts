import { constants } from 'node:os'

/** A second Ctrl-C within this time cancels. */
const TWICE_WITHIN_MS = 2_000

export type InterruptSignal = 'SIGINT' | 'SIGTERM'

/**
 * Ctrl-C and SIGTERM. By default the first one cancels the call. A command that runs in a sandbox takes them over: then the first goes
 * to the command and a second within two seconds cancels.
 */
export class Interrupts {
  /** Fires when the call is to be cancelled. */
  readonly signal: AbortSignal
  readonly #cancel = new AbortController()
  #forward: ((signal: InterruptSignal) => void) | null = null
  #left: () => void = () => undefined
  #last = -Infinity
  #received: InterruptSignal | null = null

  constructor() {
    this.signal = this.#cancel.signal
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => this.#handle(signal))
  }

  /** Sends the first signal here instead of cancelling. */
  forwardTo(send: (signal: InterruptSignal) => void): void {
    this.#forward = send
  }

  /** Called when the person leaves before a cancelled call has ended; the process ends with it. */
  onLeft(say: () => void): void {
    this.#left = say
  }

  cancel(): void {
    this.#cancel.abort()
  }

  /** 128 + N of the signal that cancelled, if one did. */
  get exitCode(): number | null {
    return this.#received === null || !this.signal.aborted ? null : 128 + constants.signals[this.#received]
  }

  #handle(signal: InterruptSignal): void {
    const now = performance.now()
    const again = now - this.#last < TWICE_WITHIN_MS
    this.#last = now
    this.#received = signal
    // The engine was asked already and has not answered yet: the person wants out.
    if (this.signal.aborted) {
      this.#left()
      process.exit(128 + constants.signals[signal])
    }
    if (this.#forward !== null && !again) return this.#forward(signal)
    this.#cancel.abort()
  }
}
