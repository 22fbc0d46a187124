/** How long ended commands wait for others: each message wakes an emulated machine, which then has less for the next command. */
const PAUSE_MS = 250

/** Ended commands that the agent may forget, told together. */
export class Releases {
  readonly #tell: (ids: readonly string[]) => Promise<void>
  #ids: string[] = []
  #next: Promise<void> | null = null

  constructor(tell: (ids: readonly string[]) => Promise<void>) {
    this.#tell = tell
  }

  /** Settles with the message that names it. */
  add(id: string): Promise<void> {
    this.#ids.push(id)
    return (this.#next ??= this.#tellSoon())
  }

  async #tellSoon(): Promise<void> {
    await new Promise<void>((resolve) => setTimeout(resolve, PAUSE_MS).unref())
    const ids = this.#ids
    this.#ids = []
    this.#next = null
    await this.#tell(ids)
  }
}
