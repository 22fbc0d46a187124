import { PassThrough } from 'node:stream'
import { createInterface } from 'node:readline'
import type { Workspace } from '@pyro/sdk'
import { summarize, timeMs } from '../measure.ts'
import type { Bench, Result, Row } from '../row.ts'

const REACH_MS = 5
const ROUNDS = 50
const LOOP_ROUNDS = 20

/** Forks and executes `true`: in a loop first, then once for each line it reads. Prints each round in ms. Runs inside. */
const FORKS = `
import os, sys, time
def fork():
    t = time.perf_counter()
    pid = os.posix_spawn('/bin/true', ['true'], os.environ)
    os.waitpid(pid, 0)
    print((time.perf_counter() - t) * 1000, flush=True)
for i in range(${LOOP_ROUNDS}): fork()
for line in sys.stdin: fork()
`

/**
 * The floor forks in turns with the commands it is held against: a processor that has slept in between, inside or on the host, takes
 * longer for both. What a fork takes in a loop stands beside it.
 */
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
      const [loop, floor, subject]: [number[], number[], number[]] = [[], [], []]
      while (loop.length < LOOP_ROUNDS) loop.push(await forks.next())
      for (let round = 0; round < (bench.quick ? 10 : ROUNDS); round += 1) {
        forks.ask()
        floor.push(await forks.next())
        subject.push(await timeMs(() => workspace.exec(['true'], { check: true })))
      }
      await forks.end()
      results.push(resultOf(driver, { loop, floor, subject }))
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
    ask: () => void asking.write('\n'),
    next: async (): Promise<number> => {
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

const resultOf = (driver: string, times: Readonly<Record<'loop' | 'floor' | 'subject', readonly number[]>>): Result => {
  const [floor, subject] = [summarize(times.floor), summarize(times.subject)]
  return {
    what: 'exec of `true`',
    driver,
    subject,
    floor,
    floorName: 'fork and exec inside, in turns with it',
    reach: `floor + ${REACH_MS} ms`,
    holds: subject.medianMs <= floor.medianMs + REACH_MS,
    note: `in a loop: ${summarize(times.loop).medianMs.toFixed(1)} ms`,
  }
}
