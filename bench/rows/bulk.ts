import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { RuntimeFloor } from '../floors/runtime.ts'
import { shell } from '../floors/program.ts'
import { inTurn, repeat, summarize, type Samples } from '../measure.ts'
import type { Bench, Result, Row } from '../row.ts'
import type { Workspace } from '@pyro/sdk'

const PIPE_LOOP = `
import subprocess, sys, time
for i in range(int(sys.argv[1])):
    t = time.perf_counter()
    subprocess.run('cat blob | cat > /dev/null', shell=True, check=True)
    print((time.perf_counter() - t) * 1000)
`

/** Much data in, much data out. */
export const bulk: Row = {
  name: 'bulk',
  async run(bench: Bench): Promise<Result[]> {
    const mib = bench.quick ? 16 : 1024
    const files = bench.quick ? 1_000 : 50_000
    const runs = bench.quick ? 1 : 3
    const small = join(bench.scratch, 'small')
    const large = join(bench.scratch, 'large')
    await shell(
      `mkdir -p '${small}' '${large}'; cd '${small}'; for d in $(seq 0 99); do mkdir -p d$d; done;
       python3 -c "for i in range(${files}): open(f'd{i % 100}/f{i}', 'w').write(f'{i}\\n' * 8)"
       head -c ${mib}M /dev/urandom > '${large}/blob'`,
    )
    const results: Result[] = []
    for (const driver of bench.drivers) {
      const floor = await RuntimeFloor.prepare({
        runtime: driver,
        tree: bench.floorTree,
        folder: join(bench.scratch, `floor-${driver}`),
        idBase: 0x40000000,
      })
      await floor.start('floor-bulk')
      for (const [what, folder] of [
        // In this order: a disk of many small files is taken apart for seconds after it was deleted.
        [`seed ${mib} MiB`, large],
        [`seed ${files} small files`, small],
      ] as const) {
        let made: Workspace | undefined
        // What one of the two has left to be written out is not the other's.
        const settled = (): Promise<string> => shell('sync')
        const measured = await inTurn(
          runs,
          async () => {
            made = await bench.pyro.workspaces.create({
              environment: bench.environment,
              driver: driver as 'runc',
              seed: { path: folder },
            })
          },
          async () => {
            const dest = `/var/tmp/${what.replaceAll(' ', '-')}`
            await floor.pipeInto('floor-bulk', `tar -C '${folder}' -c .`, [
              'sh',
              '-c',
              `rm -rf ${dest} && mkdir -p ${dest} && tar -x -C ${dest}`,
            ])
          },
          async () => {
            await made?.delete()
            await settled()
          },
          settled,
        )
        results.push({
          what,
          driver,
          subject: measured.subject,
          floor: measured.floor,
          floorName: 'tar into tar inside',
          reach: '1.5×',
          holds: measured.subject.medianMs <= 1.5 * measured.floor.medianMs,
          note: 'create included',
        })
      }
      await floor.remove('floor-bulk')
      await floor.dispose()

      await using workspace = await bench.pyro.workspaces.create({
        environment: bench.environment,
        driver: driver as 'runc',
        seed: { path: large },
      })
      const pipe = await pipeInside(workspace, runs)
      let peak = 0
      const { pid } = await bench.pyro.engine.status()
      const watch = setInterval(() => void residentKib(pid).then((kib) => (peak = Math.max(peak, kib))), 50)
      const printed = await repeat(runs, async () => {
        let bytes = 0
        await workspace.exec(['cat', 'blob'], { check: true, onStdoutBytes: (part) => void (bytes += part.byteLength) })
        if (bytes !== mib * 1024 * 1024) throw new Error(`${bytes} bytes arrived`)
      })
      clearInterval(watch)
      results.push(
        rate(`exec that prints ${mib} MiB`, driver, printed, pipe, `engine peak ${Math.round(peak / 1024)} MiB`),
      )
      const exported = await repeat(runs, async () => {
        let bytes = 0
        await workspace.export('blob', { output: (part) => void (bytes += part.byteLength), format: 'tar' })
        if (bytes < mib * 1024 * 1024) throw new Error(`${bytes} bytes arrived`)
      })
      results.push(rate(`a file of ${mib} MiB out`, driver, exported, pipe, ''))
    }
    return results
  },
}

/** Timed by the sandbox itself, the first round left out. */
const pipeInside = async (workspace: Workspace, runs: number): Promise<Samples> => {
  const { stdout } = await workspace.exec(['python3', '-c', PIPE_LOOP, String(runs + 1)], { check: true })
  return summarize(stdout.trim().split('\n').slice(1).map(Number))
}

const rate = (what: string, driver: string, subject: Samples, floor: Samples, note: string): Result => ({
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
