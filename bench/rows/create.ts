import { join } from 'node:path'
import { RuntimeFloor } from '../floors/runtime.ts'
import { inTurn } from '../measure.ts'
import type { Bench, Result, Row } from '../row.ts'
import type { Workspace } from '@pyro/sdk'

const REACH_MS = 60

/** Create an empty workspace and get the result of its first `true`. */
export const create: Row = {
  name: 'create',
  async run(bench: Bench): Promise<Result[]> {
    const results: Result[] = []
    for (const driver of bench.drivers) {
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
          made = await bench.pyro.workspaces.create({ environment: bench.environment, driver: driver as 'runc' })
          await made.exec(['true'], { check: true })
        },
        (run) => floor.createStartExec(`floor-${run + 1}`),
        async (run) => {
          await made?.delete()
          if (run >= 0) await floor.remove(`floor-${run}`)
        },
      )
      await floor.remove(`floor-${bench.quick ? 2 : 10}`)
      await floor.dispose()
      results.push({
        what: 'create (empty) to the first `true`',
        driver,
        subject,
        floor: floors,
        floorName: `${driver} create, start, exec`,
        reach: `floor + ${REACH_MS} ms`,
        holds: subject.medianMs <= floors.medianMs + REACH_MS,
        note: '',
      })
    }
    return results
  },
}
