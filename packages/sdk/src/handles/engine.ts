import type { InputOf, ResultOf } from '@pyro/protocol'
import { isPyroError } from '@pyro/protocol/client'
import type { CallOptions, Client } from '../transport/client.ts'

/** The engine process behind a connection. */
export class Engine {
  readonly #client: Client

  constructor(client: Client) {
    this.#client = client
  }

  /** Never starts the engine: `running` is false when none answers. */
  async status(options: CallOptions = {}): Promise<ResultOf<'engine.status'>> {
    if (!(await this.#client.answers())) {
      const { socket, home } = this.#client
      return { running: false, pid: null, version: null, socket, home, workspaces: null }
    }
    return this.#client.call('engine.status', {}, options)
  }

  /** Starts the engine when it does not answer. */
  start(options: CallOptions = {}): Promise<void> {
    return this.#client.ensureEngine(options.signal)
  }

  /** Ends the engine; sandboxes live on unless `workspaces` is set. Resolves when its socket answers no more. */
  async shutdown(
    input: InputOf<'engine.shutdown'> = {},
    options: CallOptions = {},
  ): Promise<ResultOf<'engine.shutdown'> | null> {
    if (!(await this.#client.answers())) return null
    try {
      return await this.#client.once('engine.shutdown', input, options)
    } catch (error) {
      if (!isPyroError(error) || error.code !== 'engine.unreachable') throw error
      return null
    }
  }
}
