import { join } from 'node:path'
import { MachineCopy } from '../floors/machine-copy.ts'
import { restore } from '../floors/restore.ts'
import { RuntimeFloor } from '../floors/runtime.ts'
import { inTurn, inTurnMs, summarize, timeMs } from '../measure.ts'
import type { Bench, Result, Row } from '../row.ts'
import type { Workspace } from '@pyro/sdk'

const WHAT = 'create (empty) to the first `true`'
const REACH_MS = 60
const MACHINE_REACH = 1.5
const MACHINE_REACH_MS = 500

/** Create an empty workspace and get the result of its first `true`. */
export const create: Row = {
  name: 'create',
  async run(bench: Bench): Promise<Result[]> {
    const results: Result[] = []
    for (const driver of bench.containers) results.push(await container(bench, driver))
    for (const driver of bench.machines) results.push(await machine(bench, driver))
    return results
  },
}

const container = async (bench: Bench, driver: string): Promise<Result> => {
  const floor = await RuntimeFloor.prepare({
    runtime: driver,
    tree: bench.floorTree,
    folder: join(bench.scratch, `floor-${driver}`),
    idBase: 0x40000000,
  })
  let made: Workspace | undefined
  const { subject, floor: floors } = await inTurn(
    bench.quick ? 2 : 10,
    async () => {
      made = await createTrue(bench, driver)
    },
    (run) => floor.createStartExec(`floor-${run + 1}`),
    async (run) => {
      await made?.delete()
      if (run >= 0) await floor.remove(`floor-${run}`)
    },
  )
  await floor.remove(`floor-${bench.quick ? 2 : 10}`)
  await floor.dispose()
  return {
    what: WHAT,
    driver,
    subject,
    floor: floors,
    floorName: `${driver} create, start, exec`,
    reach: `floor + ${REACH_MS} ms`,
    holds: subject.medianMs <= floors.medianMs + REACH_MS,
    note: '',
  }
}

const machine = async (bench: Bench, driver: string): Promise<Result> => {
  const copied = await createTrue(bench, driver)
  const copy = await MachineCopy.of(bench, copied, join(bench.scratch, `restored-${driver}`))
  await copied.delete()
  const createMs = async (): Promise<number> => {
    let made: Workspace | undefined
    const took = await timeMs(async () => {
      made = await createTrue(bench, driver)
    })
    await made?.delete()
    return took
  }
  const hellos: number[] = []
  const { subject, floor } = await inTurnMs(bench.quick ? 2 : 10, createMs, async () => {
    const { helloMs, trueMs } = await restore(copy)
    hellos.push(helloMs)
    return helloMs + trueMs
  })
  await copy.remove()
  return {
    what: WHAT,
    driver,
    subject,
    floor,
    floorName: 'its restore by qemu alone, to the first `true`',
    reach: `${MACHINE_REACH}×, ≤ ${MACHINE_REACH_MS} ms`,
    holds: subject.medianMs <= MACHINE_REACH * floor.medianMs && subject.medianMs <= MACHINE_REACH_MS,
    note: `floor to the hello: ${summarize(hellos.slice(1)).medianMs.toFixed(0)} ms`,
  }
}

const createTrue = async (bench: Bench, driver: string): Promise<Workspace> => {
  const workspace = await bench.pyro.workspaces.create({ environment: bench.environment, driver: driver as 'runc' })
  await workspace.exec(['true'], { check: true })
  return workspace
}
