import { residentKib } from './bulk.ts'
import { repeat, type Samples } from '../measure.ts'
import type { Bench, Result, Row } from '../row.ts'
import type { Workspace } from '@pyro/sdk'

const ENGINE_REACH_MIB = 120
const WORKSPACE_REACH_MIB = 2

/** Whether create, list and reset cost the same beside 200 workspaces as beside one, and what an idle workspace costs the engine. */
export const scale: Row = {
  name: 'scale',
  async run(bench: Bench): Promise<Result[]> {
    const many = bench.quick ? 5 : 200
    const runs = bench.quick ? 2 : 15
    const at = { environment: bench.environment, driver: 'runc', memoryMib: 128 } as const
    if (!bench.drivers.includes('runc')) return []
    await using crowd = new AsyncDisposableStack()
    const one = crowd.use(await bench.pyro.workspaces.create(at))
    const afterRowsKib = await settledKib(bench)
    // What the rows before have done to it is told beside it.
    await bench.pyro.engine.shutdown()
    await bench.pyro.engine.start()
    const freshKib = await settledKib(bench)
    const alone = await measureAll(bench, one, runs)
    const idleKib = await settledKib(bench)
    for (let made = 1; made < many; made += 1) crowd.use(await bench.pyro.workspaces.create(at))
    const crowded = await measureAll(bench, one, runs)
    const crowdedKib = await settledKib(bench)
    const perWorkspaceMib = (crowdedKib - idleKib) / 1024 / (many - 1)
    const results = Object.keys(alone).map((what): Result => {
      const subject = crowded[what as keyof typeof crowded]
      const floor = alone[what as keyof typeof alone]
      return {
        what: `${what} beside ${many} workspaces`,
        driver: 'runc',
        subject,
        floor,
        floorName: 'beside 1',
        reach: '1.3×',
        holds: subject.medianMs <= 1.3 * floor.medianMs,
        note: '',
      }
    })
    const memory = (what: string, mib: number, reach: number, note = ''): Result => ({
      what,
      driver: 'runc',
      subject: null,
      floor: null,
      floorName: '',
      reach: `≤ ${reach} MB`,
      holds: mib <= reach,
      note: `${mib.toFixed(1)} MB${note}`,
    })
    return [
      ...results,
      memory(
        'idle engine',
        freshKib / 1024,
        ENGINE_REACH_MIB,
        `; ${(afterRowsKib / 1024).toFixed(1)} after all rows above`,
      ),
      memory('each idle workspace in it', perWorkspaceMib, WORKSPACE_REACH_MIB),
    ]
  },
}

const measureAll = async (
  bench: Bench,
  one: Workspace,
  runs: number,
): Promise<{ create: Samples; list: Samples; reset: Samples }> => {
  let made: Workspace | undefined
  return {
    create: await repeat(
      runs,
      async () => {
        made = await bench.pyro.workspaces.create({ environment: bench.environment, driver: 'runc', memoryMib: 128 })
      },
      async () => made?.delete(),
    ),
    list: await repeat(runs * 3, () => bench.pyro.workspaces.list({ workspaces: [one.id] })),
    reset: await repeat(runs, () => one.reset()),
  }
}

/** Resident memory after a pause in which garbage can go. */
const settledKib = async (bench: Bench): Promise<number> => {
  await new Promise((resolve) => setTimeout(resolve, 5_000))
  return residentKib((await bench.pyro.engine.status()).pid)
}
