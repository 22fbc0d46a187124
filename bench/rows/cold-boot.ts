import { join } from 'node:path'
import { withSetting } from '../engine-setting.ts'
import { bareKernelMs, writeEmptyInit } from '../floors/bare-kernel.ts'
import { MachineCopy } from '../floors/machine-copy.ts'
import { inTurnMs, timeMs } from '../measure.ts'
import type { Bench, Result, Row } from '../row.ts'

const REACH_MS = 500

/** Start of a stopped workspace whose machine boots, to the agent. */
export const coldBoot: Row = {
  name: 'cold-boot',
  async run(bench: Bench): Promise<Result[]> {
    if (bench.machines.length === 0) return []
    return withSetting(bench.pyro, { name: 'PYRO_MACHINE_TEMPLATES', value: '0' }, async () => {
      const results: Result[] = []
      for (const driver of bench.machines) results.push(await boot(bench, driver))
      return results
    })
  },
}

const boot = async (bench: Bench, driver: string): Promise<Result> => {
  const at = { environment: bench.environment, driver: driver as 'runc' }
  await using workspace = await bench.pyro.workspaces.create(at)
  const copy = await MachineCopy.of(bench, workspace, join(bench.scratch, `booted-${driver}`))
  const initramfs = await writeEmptyInit(bench.scratch)
  const startMs = async (): Promise<number> => {
    const took = await timeMs(() => workspace.start())
    await workspace.stop()
    return took
  }
  const { subject, floor } = await inTurnMs(bench.quick ? 1 : 7, startMs, () => bareKernelMs(copy, initramfs))
  await copy.remove()
  return {
    what: 'start without a template, to the agent',
    driver,
    subject,
    floor,
    floorName: 'the bare kernel with an empty init',
    reach: `floor + ${REACH_MS} ms`,
    holds: subject.medianMs <= floor.medianMs + REACH_MS,
    note: '',
  }
}
