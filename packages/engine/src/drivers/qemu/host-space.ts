import { z } from 'zod'
import { sleep } from '../../lib/wait.ts'
import { Qmp } from './qmp.ts'

const LOOK_MS = 2_000
const ANSWER_MS = 1_000
const none = z.object({})
const status = z.object({ status: z.string() })

/**
 * A machine whose disk finds no space on the host is stopped by qemu (`werror=enospc`), so that its filesystem never sees the error.
 * It is let go on until there is space again.
 */
export const resumeWhenSpace = (controlSocket: string): Disposable => {
  const over = new AbortController()
  void watch(controlSocket, over.signal)
  return { [Symbol.dispose]: () => over.abort() }
}

const watch = async (controlSocket: string, signal: AbortSignal): Promise<void> => {
  while (!signal.aborted) {
    try {
      await sleep(LOOK_MS, signal)
      await look(controlSocket, AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS)]))
    } catch {
      // The end of the watch, or a VMM that does not answer: the sandbox itself notices when it is gone.
      continue
    }
  }
}

/** With a connection of its own: what a VMM says unasked is not read. */
const look = async (controlSocket: string, signal: AbortSignal): Promise<void> => {
  using qmp = await Qmp.connect(controlSocket, signal)
  if ((await qmp.execute('query-status', {}, status)).status === 'io-error') await qmp.execute('cont', {}, none)
}
