import { setTimeout as sleep } from 'node:timers/promises'
import type { InputOf, ResultOf } from '@pyro/protocol'
import { isPyroError, PyroError } from '@pyro/protocol/client'
import type { CallOptions, Client } from '../transport/client.ts'

/** It finishes what it has begun and flushes its state. */
const SHUTDOWN_DEADLINE_MS = 30_000
const SHUTDOWN_POLL_MS = 20

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

  /**
   * Ends the engine; sandboxes live on unless `workspaces` is set. Resolves when the process is gone; null when none ran.
   *
   * @throws PyroError `request.timed-out` when it is still there after 30 s
   */
  async shutdown(
    input: InputOf<'engine.shutdown'> = {},
    options: CallOptions = {},
  ): Promise<ResultOf<'engine.shutdown'> | null> {
    const { pid } = await this.#pid(options)
    if (pid === null) return null
    const result = await this.#client.once('engine.shutdown', input, options)
    await this.#gone(pid, options.signal)
    return result
  }

  /** Also of an engine of another version, which answers nothing but its status. */
  async #pid(options: CallOptions): Promise<{ pid: number | null }> {
    try {
      return await this.#client.once('engine.status', {}, options)
    } catch (error) {
      if (!isPyroError(error) || error.code !== 'engine.unreachable') throw error
      return { pid: null }
    }
  }

  async #gone(pid: number, signal: AbortSignal | undefined): Promise<void> {
    const deadline = Date.now() + SHUTDOWN_DEADLINE_MS
    while (isAlive(pid)) {
      if (Date.now() > deadline) {
        throw new PyroError(
          'request.timed-out',
          `the engine (pid ${pid}) is still there after ${SHUTDOWN_DEADLINE_MS / 1000} s`,
          {
            hint: 'pyro daemon logs',
          },
        )
      }
      await sleep(SHUTDOWN_POLL_MS, undefined, signal === undefined ? {} : { signal })
    }
  }
}

const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    // EPERM: it lives, and belongs to somebody else.
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
