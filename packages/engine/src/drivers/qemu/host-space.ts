import type { Failure } from '@pyro/protocol'
import { z } from 'zod'
import { sleep } from '../../lib/wait.ts'
import type { SandboxWatch } from '../monitored/technology.ts'
import { Qmp } from './qmp.ts'

const LOOK_MS = 2_000
const ANSWER_MS = 1_000
/** What was refused is tried again at once. */
const REFUSED_AGAIN_MS = 100
const none = z.object({})
const status = z.object({ status: z.string() })

/** Of qemu, with `werror=enospc`. */
const HELD_STATUS = 'io-error'

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
    const look = async (): Promise<string> => (await qmp.execute('query-status', {}, status)).status
    let seen = await look()
    if (seen === HELD_STATUS) {
      this.#held = this.#stood = true
      await qmp.execute('cont', {}, none)
      await sleep(REFUSED_AGAIN_MS, signal)
      seen = await look()
    }
    this.#held = seen === HELD_STATUS
    if (this.#stood && seen === 'running') this.#wentOn()
    this.#stood = seen !== 'running'
  }
}
