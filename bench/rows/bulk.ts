import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { RuntimeFloor } from '../floors/runtime.ts'
import { shell } from '../floors/program.ts'
import { inTurn, summarize, timeMs, type Samples } from '../measure.ts'
import type { Bench, Result, Row } from '../row.ts'
import { sandboxOf } from '../sandbox.ts'
import type { Workspace } from '@pyro/sdk'

/** Timed by the sandbox itself: what it costs to start something there is not part of it. */
const PIPE = `
import subprocess, time
t = time.perf_counter()
subprocess.run('cat blob | cat > /dev/null', shell=True, check=True)
print((time.perf_counter() - t) * 1000)
`

/** Much data in, much data out of containers. */
export const bulk: Row = {
  name: 'bulk',
  async run(bench: Bench): Promise<Result[]> {
    const mib = bench.quick ? 16 : 1024
    const files = bench.quick ? 1_000 : 50_000
    const runs = bench.quick ? 1 : 3
    const rounds = bench.quick ? 1 : 7
    const small = join(bench.scratch, 'small')
    const large = join(bench.scratch, 'large')
    await shell(
      `mkdir -p '${small}' '${large}'; cd '${small}'; for d in $(seq 0 99); do mkdir -p d$d; done;
       python3 -c "for i in range(${files}): open(f'd{i % 100}/f{i}', 'w').write(f'{i}\\n' * 8)"
       head -c ${mib}M /dev/urandom > '${large}/blob'`,
    )
    const results: Result[] = []
    for (const driver of bench.containers) {
      for (const [what, folder] of [
        // In this order: a disk of many small files is taken apart for seconds after it was deleted.
        [`seed ${mib} MiB`, large],
        [`seed ${files} small files`, small],
      ] as const) {
        results.push(await seeding(bench, { what, driver, folder, runs }))
      }

      await using workspace = await bench.pyro.workspaces.create({
        environment: bench.environment,
        driver: driver as 'runc',
        seed: { path: large },
      })
      let peak = 0
      const { pid } = await bench.pyro.engine.status()
      const watch = setInterval(() => void residentKib(pid).then((kib) => (peak = Math.max(peak, kib))), 50)
      const printed = await besidePipe(workspace, rounds, async () => {
        let bytes = 0
        await workspace.exec(['cat', 'blob'], { check: true, onStdoutBytes: (part) => void (bytes += part.byteLength) })
        if (bytes !== mib * 1024 * 1024) throw new Error(`${bytes} bytes arrived`)
      })
      clearInterval(watch)
      results.push(rate(`exec that prints ${mib} MiB`, driver, printed, `engine peak ${Math.round(peak / 1024)} MiB`))
      const exported = await besidePipe(workspace, rounds, async () => {
        let bytes = 0
        await workspace.export('blob', { output: (part) => void (bytes += part.byteLength), format: 'tar' })
        if (bytes < mib * 1024 * 1024) throw new Error(`${bytes} bytes arrived`)
      })
      results.push(rate(`a file of ${mib} MiB out`, driver, exported, ''))
    }
    return results
  },
}

interface Seeding {
  readonly what: string
  readonly driver: string
  readonly folder: string
  readonly runs: number
}

/** The floor unpacks in a sandbox like the one that is seeded, on the same disk store. */
const seeding = async (bench: Bench, { what, driver, folder, runs }: Seeding): Promise<Result> => {
  const options = { environment: bench.environment, driver: driver as 'runc' }
  await using beside = await bench.pyro.workspaces.create(options)
  const sandbox = await sandboxOf(bench.pyro, beside)
  const floor = RuntimeFloor.inSandbox(driver, join(sandbox.folder, 'runtime'))
  let made: Workspace | undefined
  // What one of the two has left to be written out is not the other's.
  const settled = (): Promise<string> => shell('sync')
  const measured = await inTurn(
    runs,
    async () => {
      made = await bench.pyro.workspaces.create({ ...options, seed: { path: folder } })
    },
    async () => {
      await floor.pipeInto(sandbox.id, `tar -C '${folder}' -c .`, ['tar', '-x', '-C', '/workspace'])
    },
    async () => {
      await made?.delete()
      await settled()
    },
    async () => {
      await beside.exec('rm -rf /workspace/*', { check: true })
      await settled()
    },
  )
  return {
    what,
    driver,
    subject: measured.subject,
    floor: measured.floor,
    floorName: 'tar into tar inside',
    reach: '1.5×',
    holds: measured.subject.medianMs <= 1.5 * measured.floor.medianMs,
    note: 'create included',
  }
}

/** In turn with the pipe, so that a machine whose speed drifts is equally fast for both. The first round is left out. */
const besidePipe = async (workspace: Workspace, rounds: number, work: () => Promise<void>): Promise<Pair> => {
  const [subject, floor]: [number[], number[]] = [[], []]
  for (let round = 0; round <= rounds; round += 1) {
    subject.push(await timeMs(work))
    floor.push(Number((await workspace.exec(['python3', '-c', PIPE], { check: true })).stdout))
  }
  return { subject: summarize(subject.slice(1)), floor: summarize(floor.slice(1)) }
}

interface Pair {
  readonly subject: Samples
  readonly floor: Samples
}

const rate = (what: string, driver: string, { subject, floor }: Pair, note: string): Result => ({
  what,
  driver,
  subject,
  floor,
  floorName: 'cat through a pipe inside',
  reach: '25% of its rate',
  holds: subject.medianMs <= 4 * floor.medianMs,
  note,
})

export const residentKib = async (pid: number | null): Promise<number> => {
  const text = await readFile(`/proc/${pid}/status`, 'utf8')
  return Number(/VmRSS:\s+(\d+)/.exec(text)?.[1] ?? 0)
}
