import type { Failure } from '@pyro/protocol'
import { z } from 'zod'
import { sleep } from '../../lib/wait.ts'
import type { SandboxWatch } from '../monitored/technology.ts'
import { Qmp } from './qmp.ts'

const LOOK_MS = 2_000
const ANSWER_MS = 1_000
const none = z.object({})
const status = z.object({ status: z.string() })

const HELD: Failure = {
  code: 'disk.full',
  message: 'the host has no space for what the machine writes: it is held, and goes on when there is room',
  hint: 'make room on the host, or delete snapshots and workspaces: pyro workspace list',
}

/**
 * A machine whose disk finds no space on the host is stopped by qemu (`werror=enospc`), so that its filesystem never sees the error.
 * It is let go on until there is space again. `wentOn` is called when it stood still, for this reason or another one.
 */
export class HostSpaceWatch implements SandboxWatch {
  readonly #controlSocket: string
  readonly #wentOn: () => void
  readonly #over = new AbortController()
  #held = false
  #stood = false

  constructor(controlSocket: string, wentOn: () => void) {
    this.#controlSocket = controlSocket
    this.#wentOn = wentOn
    void this.#watch(this.#over.signal)
  }

  get trouble(): Failure | null {
    return this.#held ? HELD : null
  }

  [Symbol.dispose](): void {
    this.#over.abort()
  }

  async #watch(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await sleep(LOOK_MS, signal)
        await this.#look(AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS)]))
      } catch {
        // The end of the watch, or a VMM that does not answer: the sandbox itself notices when it is gone.
        continue
      }
    }
  }

  /** With a connection of its own: what a VMM says unasked is not read. */
  async #look(signal: AbortSignal): Promise<void> {
    using qmp = await Qmp.connect(this.#controlSocket, signal)
    const seen = (await qmp.execute('query-status', {}, status)).status
    this.#held = seen === 'io-error'
    if (this.#held) await qmp.execute('cont', {}, none)
    if (this.#held || (this.#stood && seen === 'running')) this.#wentOn()
    this.#stood = seen !== 'running'
  }
}
