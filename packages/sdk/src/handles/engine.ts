import { setTimeout as sleep } from 'node:timers/promises'
import type { InputOf, ResultOf } from '@pyro/protocol'
import { isPyroError, PyroError } from '@pyro/protocol/client'
import { cancelled, type CallOptions, type Client } from '../transport/client.ts'

/** A busy engine may take a while to answer; one that says nothing for so long is not asked to end. */
const SHUTDOWN_ANSWER_MS = 15_000
/** It finishes what it has begun and flushes its state. */
const SHUTDOWN_DEADLINE_MS = 30_000
const SHUTDOWN_POLL_MS = 20

/** The engine process behind a connection. */
export class Engine {
  readonly #client: Client

  constructor(client: Client) {
    this.#client = client
  }

  /**
   * Never starts the engine: `running` is false when there is none.
   *
   * @throws PyroError `engine.unreachable` when there is one that does not answer
   */
  async status(options: CallOptions = {}): Promise<ResultOf<'engine.status'>> {
    if (!(await this.#client.isThere())) {
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
   * @throws PyroError `request.timed-out` when it is still there after 30 s, `engine.unreachable` when it does not answer,
   *   `request.cancelled`
   */
  async shutdown(
    input: InputOf<'engine.shutdown'> = {},
    options: CallOptions = {},
  ): Promise<ResultOf<'engine.shutdown'> | null> {
    if (!(await this.#client.isThere(SHUTDOWN_ANSWER_MS, options.signal))) return null
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
      if (signal?.aborted === true) throw cancelled('engine.shutdown', `the engine (pid ${pid}) is about to end`)
      await sleep(SHUTDOWN_POLL_MS)
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
