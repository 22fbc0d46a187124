import { PassThrough } from 'node:stream'
import { createInterface } from 'node:readline'
import type { Workspace } from '@pyro/sdk'
import { summarize, timeMs } from '../measure.ts'
import type { Bench, Result, Row } from '../row.ts'

const REACH_MS = 5
const ROUNDS = 50

/** Forks and executes `true` for each line it reads, and prints how many ms that took. Runs inside. */
const FORKS = `
import os, sys, time
for line in sys.stdin:
    t = time.perf_counter()
    pid = os.posix_spawn('/bin/true', ['true'], os.environ)
    os.waitpid(pid, 0)
    print((time.perf_counter() - t) * 1000, flush=True)
`

/** The floor forks in turns with the commands it is held against: both meet the same host, whose speed drifts. */
export const exec: Row = {
  name: 'exec',
  async run(bench: Bench): Promise<Result[]> {
    const results: Result[] = []
    for (const driver of bench.drivers) {
      await using workspace = await bench.pyro.workspaces.create({
        environment: bench.environment,
        driver: driver as 'runc',
      })
      const forks = startForks(workspace)
      const [floors, execs]: [number[], number[]] = [[], []]
      await forks.time()
      for (let round = 0; round < (bench.quick ? 10 : ROUNDS); round += 1) {
        floors.push(await forks.time())
        execs.push(await timeMs(() => workspace.exec(['true'], { check: true })))
      }
      await forks.end()
      const [floor, subject] = [summarize(floors), summarize(execs)]
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

/** The process that forks. */
const startForks = (workspace: Workspace) => {
  const [asking, answers] = [new PassThrough(), new PassThrough()]
  const running = workspace.exec(['python3', '-c', FORKS], {
    stdin: asking,
    onStdoutBytes: (bytes) => void answers.write(bytes),
    check: true,
  })
  const lines = createInterface({ input: answers })[Symbol.asyncIterator]()
  const over = (): void => void answers.end()
  running.then(over, over)
  return {
    time: async (): Promise<number> => {
      asking.write('\n')
      const { value, done } = await lines.next()
      if (done === true)
        throw new Error('what forks inside has ended', { cause: await running.catch((error) => error) })
      return Number(value)
    },
    end: async (): Promise<void> => {
      asking.end()
      await running
    },
  }
}
