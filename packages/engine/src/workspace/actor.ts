import { PyroError } from '@pyro/protocol'

/** Requests that may queue up at one workspace. */
const QUEUE_LIMIT = 1024

export interface TurnOptions {
  /** What is asked, for messages. */
  readonly what: string
  /** Gives up with `workspace.busy` when the turn has not come by then; null waits for ever (our own events). */
  readonly waitMs: number | null
  readonly signal?: AbortSignal | undefined
}

interface Turn {
  readonly options: TurnOptions
  /** Never rejects; gives what tells the caller, to be called when the actor is free again. */
  readonly run: () => Promise<() => void>
  readonly refuse: (error: unknown) => void
}

/**
 * One queue, one loop: whatever changes a workspace is a turn, and turns never overlap. A turn that waits can be given up; one
 * that has begun runs to its end, which its own deadlines bound.
 */
export class Actor {
  readonly #name: () => string
  readonly #queue: Turn[] = []
  #current: TurnOptions | null = null
  #closed: PyroError | null = null

  constructor(name: () => string) {
    this.#name = name
  }

  /** What is going on now, null when idle. */
  get busyWith(): string | null {
    return this.#current?.what ?? null
  }

  get idle(): boolean {
    return this.#current === null && this.#queue.length === 0
  }

  turn<T>(options: TurnOptions, work: () => Promise<T>): Promise<T> {
    if (this.#closed !== null) return Promise.reject(this.#closed)
    if (options.signal?.aborted === true) return Promise.reject(options.signal.reason)
    if (this.#queue.length >= QUEUE_LIMIT) return Promise.reject(this.#busy(`${QUEUE_LIMIT} requests wait already`))
    return new Promise<T>((resolve, reject) => {
      let timer: NodeJS.Timeout | undefined
      const leave = (): void => {
        clearTimeout(timer)
        options.signal?.removeEventListener('abort', cancel)
      }
      const turn: Turn = {
        options,
        run: async () => {
          leave()
          try {
            const result = await work()
            return () => resolve(result)
          } catch (error) {
            return () => reject(error)
          }
        },
        refuse: (error) => {
          leave()
          reject(error)
        },
      }
      const giveUp = (error: unknown): void => {
        const at = this.#queue.indexOf(turn)
        if (at < 0) return
        this.#queue.splice(at, 1)
        turn.refuse(error)
      }
      const cancel = (): void => giveUp(options.signal?.reason)
      options.signal?.addEventListener('abort', cancel, { once: true })
      if (options.waitMs !== null) {
        const { waitMs } = options
        timer = setTimeout(
          () => giveUp(this.#busy(`${this.busyWith ?? 'another request'} took over ${waitMs} ms`)),
          waitMs,
        )
      }
      this.#queue.push(turn)
      if (this.#current === null) void this.#loop()
    })
  }

  /** Every waiting and later turn is refused with this error; the present one ends as it does. */
  close(error: PyroError): void {
    this.#closed = error
    for (const turn of this.#queue.splice(0)) turn.refuse(error)
  }

  async #loop(): Promise<void> {
    for (let turn = this.#queue.shift(); turn !== undefined; turn = this.#queue.shift()) {
      this.#current = turn.options
      const settle = await turn.run()
      this.#current = null
      settle()
    }
  }

  #busy(why: string): PyroError {
    return new PyroError('workspace.busy', `"${this.#name()}" is busy: ${why}; nothing was changed`, {
      hint: `pyro workspace status ${this.#name()}`,
    })
  }
}
