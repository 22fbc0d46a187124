import { writeSync, openSync, closeSync, fsyncSync } from 'node:fs'
import { join } from 'node:path'
import { rm } from 'node:fs/promises'
import { repeat, timeMs, summarize } from '../measure.ts'
import type { Bench, Result, Row } from '../row.ts'

const SNAPSHOT_REACH_MS = 30
const MAKE_FILES = (count: number): string =>
  `import os
for d in range(100):
    os.makedirs(f'/workspace/d{d}', exist_ok=True)
for i in range(${count}):
    with open(f'/workspace/d{i % 100}/f{i}', 'w') as f: f.write(f'{i}\\n' * 8)
`

/** Snapshots and resets of a full workspace beside those of an empty one. */
export const snapshot: Row = {
  name: 'snapshot',
  async run(bench: Bench): Promise<Result[]> {
    const files = bench.quick ? 2_000 : 50_000
    const runs = bench.quick ? 2 : 10
    const results: Result[] = []
    for (const driver of bench.drivers) {
      const at = { environment: bench.environment, driver: driver as 'runc' }
      await using empty = await bench.pyro.workspaces.create(at)
      await using full = await bench.pyro.workspaces.create(at)
      await full.exec(['python3', '-c', MAKE_FILES(files)], { check: true })
      await full.snapshots.create('flushed')
      const emptySnapshot = await repeat(runs, (run) => empty.snapshots.create(`s${run + 1}`))
      const fullSnapshot = await repeat(runs, (run) => full.snapshots.create(`s${run + 1}`))
      results.push({
        what: `snapshot, ${files} files, flushed`,
        driver,
        subject: fullSnapshot,
        floor: emptySnapshot,
        floorName: 'the same, empty',
        reach: `2×, ≤ ${SNAPSHOT_REACH_MS} ms`,
        holds: fullSnapshot.medianMs <= 2 * emptySnapshot.medianMs && fullSnapshot.medianMs <= SNAPSHOT_REACH_MS,
        note: '',
      })

      const createTrue = await repeat(runs, async () => {
        await using workspace = await bench.pyro.workspaces.create(at)
        await workspace.exec(['true'], { check: true })
      })
      const creates: number[] = []
      const resets: number[] = []
      for (let run = 0; run < runs; run += 1) {
        const made = await timeOf(async () => {
          const workspace = await bench.pyro.workspaces.create(at)
          await workspace.exec(['true'], { check: true })
          return workspace
        })
        await made.value.delete()
        creates.push(made.ms)
        resets.push(
          await timeMs(async () => {
            await full.reset({ snapshot: 's1' })
            await full.exec(['true'], { check: true })
          }),
        )
      }
      const reset = summarize(resets)
      const floor = summarize(creates)
      results.push({
        what: `reset to ${files} files, until exec works`,
        driver,
        subject: reset,
        floor,
        floorName: 'create',
        reach: '1.2×',
        holds: reset.medianMs <= 1.2 * floor.medianMs,
        note: `create with delete ${createTrue.medianMs.toFixed(0)} ms`,
      })

      if (bench.quick) continue
      await empty.exec(['sh', '-c', 'head -c 1073741824 /dev/zero > /workspace/big'], { check: true })
      const unwritten = summarize([await timeMs(() => empty.snapshots.create('unwritten'))])
      results.push({
        what: 'snapshot, 1 GiB unwritten',
        driver,
        subject: unwritten,
        floor: summarize([await writeAndSync(join(bench.scratch, 'big'))]),
        floorName: 'fsync of 1 GiB on the host',
        reach: 'shown',
        holds: null,
        note: '',
      })
    }
    return results
  },
}

const timeOf = async <T>(work: () => Promise<T>): Promise<{ ms: number; value: T }> => {
  const from = performance.now()
  const value = await work()
  return { ms: performance.now() - from, value }
}

/** Milliseconds of the fsync alone. */
const writeAndSync = async (path: string): Promise<number> => {
  const block = Buffer.alloc(16 * 1024 * 1024)
  const fd = openSync(path, 'w')
  for (let i = 0; i < 64; i += 1) writeSync(fd, block)
  const from = performance.now()
  fsyncSync(fd)
  const took = performance.now() - from
  closeSync(fd)
  await rm(path)
  return took
}
