/** How long ended commands wait for others: each message wakes an emulated machine, which then has less for the next command. */
const PAUSE_MS = 250
/** Output of theirs for which the agent should not have to keep room that long. */
const LARGE_BYTES = 256 * 1024

/** Ended commands that the agent may forget, told together. */
export class Releases {
  readonly #tell: (ids: readonly string[]) => Promise<void>
  #ids: string[] = []
  #bytes = 0
  #timer: NodeJS.Timeout | undefined
  #told = Promise.withResolvers<void>()

  constructor(tell: (ids: readonly string[]) => Promise<void>) {
    this.#tell = tell
  }

  /** Settles with the message that names it. */
  add(id: string, outputBytes: number): Promise<void> {
    const { promise } = this.#told
    this.#ids.push(id)
    this.#bytes += outputBytes
    if (this.#bytes > LARGE_BYTES) this.#tellNow()
    else this.#timer ??= setTimeout(() => this.#tellNow(), PAUSE_MS).unref()
    return promise
  }

  #tellNow(): void {
    clearTimeout(this.#timer)
    const { resolve, reject } = this.#told
    const ids = this.#ids
    this.#ids = []
    this.#bytes = 0
    this.#timer = undefined
    this.#told = Promise.withResolvers()
    this.#tell(ids).then(resolve, reject)
  }
}
