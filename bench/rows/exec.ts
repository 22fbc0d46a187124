import { summarize, timeMs } from '../measure.ts'
import type { Bench, Result, Row } from '../row.ts'

const REACH_MS = 5

/** Of the host's own unsteadiness both sides shall get the same: so many turns, with so many rounds of each. */
const TURNS = 5
const ROUNDS = 10

/** Forks and executes `true` in a loop and prints each round in ms. Runs inside. */
const FORK_LOOP = `
import os, time
for i in range(${ROUNDS + 1}):
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
      const forks: number[] = []
      const execs: number[] = []
      for (let turn = 0; turn < (bench.quick ? 1 : TURNS); turn += 1) {
        const inside = await workspace.exec(['python3', '-c', FORK_LOOP], { check: true })
        forks.push(...inside.stdout.trim().split('\n').slice(1).map(Number))
        for (let round = 0; round < ROUNDS; round += 1)
          execs.push(await timeMs(() => workspace.exec(['true'], { check: true })))
      }
      const [floor, subject] = [summarize(forks), summarize(execs)]
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
