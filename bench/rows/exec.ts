import { repeat, summarize } from '../measure.ts'
import type { Bench, Result, Row } from '../row.ts'

const REACH_MS = 5

/** Forks and executes `true` in a loop and prints each round in ms. Runs inside. */
const FORK_LOOP = `
import os, time
for i in range(51):
    t = time.perf_counter()
    pid = os.posix_spawn('/bin/true', ['true'], os.environ)
    os.waitpid(pid, 0)
    print((time.perf_counter() - t) * 1000)
`

export const exec: Row = {
  name: 'exec',
  async run(bench: Bench): Promise<Result[]> {
    const results: Result[] = []
    for (const driver of bench.drivers) {
      await using workspace = await bench.pyro.workspaces.create({
        environment: bench.environment,
        driver: driver as 'runc',
      })
      const inside = await workspace.exec(['python3', '-c', FORK_LOOP], { check: true })
      const floor = summarize(inside.stdout.trim().split('\n').slice(1).map(Number))
      const subject = await repeat(bench.quick ? 5 : 50, () => workspace.exec(['true'], { check: true }))
      results.push({
        what: 'exec of `true`',
        driver,
        subject,
        floor,
        floorName: 'fork and exec inside',
        reach: `floor + ${REACH_MS} ms`,
        holds: subject.medianMs <= floor.medianMs + REACH_MS,
        note: '',
      })
    }
    return results
  },
}
