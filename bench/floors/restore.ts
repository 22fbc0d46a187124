import { existsSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { loadState } from '../../packages/engine/src/drivers/qemu/migration.ts'
import { Qmp } from '../../packages/engine/src/drivers/qemu/qmp.ts'
import { timeMs } from '../measure.ts'
import { EngineEnd } from './engine-end.ts'
import type { MachineCopy } from './machine-copy.ts'

const TIMEOUT_MS = 60_000
const LOOK_MS = 1

/** Milliseconds from the start of qemu, which restores the template of the machine, to the first answer of the agent in it. */
export const restoreMs = async (machine: MachineCopy): Promise<number> => {
  await machine.renewDisks()
  await rm(machine.controlSocket, { force: true })
  await using end = await EngineEnd.listen(machine)
  await using stack = new AsyncDisposableStack()
  return await timeMs(async () => {
    stack.use(machine.start())
    await load(machine)
    await end.firstAnswer()
  })
}

const load = async (machine: MachineCopy): Promise<void> => {
  const signal = AbortSignal.timeout(TIMEOUT_MS)
  // A dial that comes too early waits longer each time.
  while (!existsSync(machine.controlSocket)) await sleep(LOOK_MS, null, { signal })
  using qmp = await Qmp.connect(machine.controlSocket, signal)
  await loadState(qmp, signal)
}
