import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { monitorStatus } from '@pyro/protocol/guest'
import type { Pyro, Workspace } from '@pyro/sdk'
import { summarizeSizes } from '../measure.ts'
import type { Bench, Result, Row } from '../row.ts'
import { sandboxOf } from '../sandbox.ts'

const MEMORY_MIB = 512
const REACH_MB = 80
const SETTLE_MS = 5_000
const KIB = 1024
const MB = 1_000_000

/** What each idle machine from one template takes of the host's memory, beyond the first. */
export const memory: Row = {
  name: 'memory',
  async run(bench: Bench): Promise<Result[]> {
    const results: Result[] = []
    for (const driver of bench.machines) results.push(await idleMachines(bench, driver))
    return results
  },
}

const idleMachines = async (bench: Bench, driver: string): Promise<Result> => {
  const many = bench.quick ? 3 : 10
  const at = { environment: bench.environment, driver: driver as 'runc', memoryMib: MEMORY_MIB }
  await using stack = new AsyncDisposableStack()
  const workspaces: Workspace[] = []
  const add = async (): Promise<void> => {
    workspaces.push(stack.use(await bench.pyro.workspaces.create(at)))
  }
  await add()
  const oneBytes = await idleBytes(bench, workspaces)
  while (workspaces.length < many) await add()
  const allBytes = await idleBytes(bench, workspaces)
  const eachBytes = (allBytes - oneBytes) / (many - 1)
  return {
    what: `memory of each of ${many} idle, ${MEMORY_MIB} MiB`,
    driver,
    subject: summarizeSizes([eachBytes]),
    floor: null,
    floorName: '',
    reach: `≤ ${REACH_MB} MB`,
    holds: eachBytes <= REACH_MB * MB,
    note: `beyond the first, which takes ${(oneBytes / MB).toFixed(1)} MB alone`,
  }
}

const idleBytes = async (bench: Bench, workspaces: readonly Workspace[]): Promise<number> => {
  await sleep(bench.quick ? SETTLE_MS / 5 : SETTLE_MS)
  const each = await Promise.all(workspaces.map((workspace) => sharedBytes(bench.pyro, workspace)))
  return each.reduce((sum, bytes) => sum + bytes, 0)
}

/** Of the VMM and its monitor; what several processes share counts for each in part (proc(5), Pss). */
const sharedBytes = async (pyro: Pyro, workspace: Workspace): Promise<number> => {
  const { folder } = await sandboxOf(pyro, workspace)
  const status = monitorStatus.parse(JSON.parse(await readFile(join(folder, 'status.json'), 'utf8')))
  if (status.state !== 'running') throw new Error(`${workspace.id} does not run`)
  return (await pssBytes(status.pid)) + (await pssBytes(status.monitorPid))
}

const pssBytes = async (pid: number): Promise<number> => {
  const text = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8')
  return Number(/^Pss:\s+(\d+) kB$/m.exec(text)?.[1]) * KIB
}
