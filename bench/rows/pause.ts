import { setTimeout as sleep } from 'node:timers/promises'
import type { Workspace } from '@pyro/sdk'
import { inTurnMs, summarize, timeMs } from '../measure.ts'
import type { Bench, Result, Row } from '../row.ts'

const REACH_MS = 50
const LEAST_MS = 1_000

/**
 * Writes one byte again and again until it is told to end, and prints the longest time between two of these writes in ms. With
 * `load` another process writes blocks all over a file meanwhile.
 */
const BEATS = `
import os, signal, subprocess, sys, time
load, told = None, []
signal.signal(signal.SIGTERM, lambda *_: told.append(1))
if sys.argv[1] == 'load':
    load = subprocess.Popen([sys.executable, '-c', '''
import os, random
fd = os.open('/workspace/load', os.O_RDWR | os.O_CREAT)
while True: os.pwrite(fd, os.urandom(4096), random.randrange(16384) * 4096)
'''])
    time.sleep(0.5)
fd = os.open('/workspace/beat', os.O_WRONLY | os.O_CREAT)
os.pwrite(fd, b'.', 0)
print('beating', flush=True)
last, longest = time.monotonic(), 0
while not told:
    time.sleep(0.001)
    os.pwrite(fd, b'.', 0)
    now = time.monotonic()
    longest, last = max(longest, now - last), now
if load: load.kill()
print(longest * 1000)
`

/** How long what writes inside a machine stands still while its snapshot is taken. */
export const pause: Row = {
  name: 'pause',
  async run(bench: Bench): Promise<Result[]> {
    const results: Result[] = []
    for (const driver of bench.machines) {
      await using workspace = await bench.pyro.workspaces.create({
        environment: bench.environment,
        driver: driver as 'runc',
      })
      const runs = bench.quick ? 2 : 10
      results.push(await pauses(workspace, { what: 'pause by a snapshot, idle disk', driver, load: 'idle', runs }))
      results.push(await pauses(workspace, { what: 'pause by a snapshot, random writes', driver, load: 'load', runs }))
    }
    return results
  },
}

interface Pausing {
  readonly what: string
  readonly driver: string
  readonly load: 'idle' | 'load'
  readonly runs: number
}

/** In turn with nothing happening: what the scheduler of host and guest makes of such a loop by itself. */
const pauses = async (workspace: Workspace, { what, driver, load, runs }: Pausing): Promise<Result> => {
  const took: number[] = []
  const snapshotGapMs = (run: number): Promise<number> =>
    longestGapMs(workspace, load, async () => {
      const ms = await timeMs(() => workspace.snapshots.create(`${load}${run + 1}`))
      took.push(ms)
      await sleep(Math.max(0, LEAST_MS - ms))
    })
  const gapMs = (): Promise<number> => longestGapMs(workspace, load, () => sleep(Math.max(took.at(-1) ?? 0, LEAST_MS)))
  const { subject, floor } = await inTurnMs(runs, snapshotGapMs, gapMs)
  return {
    what,
    driver,
    subject,
    floor,
    floorName: 'the longest gap without one',
    reach: load === 'idle' ? `≤ ${REACH_MS} ms` : 'shown',
    holds: load === 'idle' ? subject.medianMs <= REACH_MS : null,
    note: `at most ${subject.maxMs.toFixed(0)} ms; the snapshot takes ${summarize(took).medianMs.toFixed(0)} ms`,
  }
}

const longestGapMs = async (
  workspace: Workspace,
  load: Pausing['load'],
  work: () => Promise<unknown>,
): Promise<number> => {
  const beating = Promise.withResolvers<void>()
  let end = (): void => {}
  const beats = workspace.exec(['python3', '-c', BEATS, load], {
    check: true,
    onStdout: () => beating.resolve(),
    control: (send) => (end = () => send('TERM')),
  })
  await Promise.race([beating.promise, beats])
  await work()
  end()
  const { stdout } = await beats
  return Number(stdout.trim().split('\n').at(-1))
}
