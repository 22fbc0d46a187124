import { existsSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { loadState } from '../../packages/engine/src/drivers/qemu/migration.ts'
import { Qmp } from '../../packages/engine/src/drivers/qemu/qmp.ts'
import type { MachineCopy } from './machine-copy.ts'
import { runIn } from './machine-command.ts'

const TIMEOUT_MS = 60_000
const LOOK_MS = 1

export interface Restored {
  /** From the start of qemu to the agent's hello. */
  readonly helloMs: number
  /** From there on to the result of a first `true`. */
  readonly trueMs: number
}

/** Restores the template of the machine by qemu alone and runs `true` in it, over its link and with nothing of an engine. */
export const restore = async (machine: MachineCopy): Promise<Restored> => {
  await machine.renewDisks()
  await rm(machine.controlSocket, { force: true })
  await using stack = new AsyncDisposableStack()
  const link = stack.use(await machine.listen())
  const from = performance.now()
  stack.use(machine.start())
  await load(machine)
  await link.session({ timeoutMs: TIMEOUT_MS })
  const hello = performance.now()
  await runIn(link.agent, 'cmd-floor', { argv: ['true'] })
  return { helloMs: hello - from, trueMs: performance.now() - hello }
}

const load = async (machine: MachineCopy): Promise<void> => {
  const signal = AbortSignal.timeout(TIMEOUT_MS)
  // A dial that comes too early waits longer each time.
  while (!existsSync(machine.controlSocket)) await sleep(LOOK_MS, null, { signal })
  using qmp = await Qmp.connect(machine.controlSocket, signal)
  await loadState(qmp, signal)
}
