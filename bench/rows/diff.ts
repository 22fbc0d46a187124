import { join } from 'node:path'
import { repeat, type Samples } from '../measure.ts'
import { shell } from '../floors/program.ts'
import type { Bench, Result, Row } from '../row.ts'

const SCRIPT = (files: number): string =>
  `import os
for d in range(100):
    os.makedirs(f'/workspace/d{d}', exist_ok=True)
for i in range(${files}):
    with open(f'/workspace/d{i % 100}/f{i}', 'w') as f: f.write(f'{i}\\n' * 8)
`
const CHANGE = (changes: number, files: number): string =>
  `for i in range(0, ${files}, ${files} // ${changes}):
    with open(f'/workspace/d{i % 100}/f{i}', 'a') as f: f.write('changed\\n')
`

export const diff: Row = {
  name: 'diff',
  async run(bench: Bench): Promise<Result[]> {
    const files = bench.quick ? 2_000 : 50_000
    const changes = bench.quick ? 100 : 1_000
    const runs = bench.quick ? 2 : 7
    const results: Result[] = []
    let runc: Samples | null = null
    for (const driver of bench.drivers) {
      await using workspace = await bench.pyro.workspaces.create({
        environment: bench.environment,
        driver: driver as 'runc',
      })
      await workspace.exec(['python3', '-c', SCRIPT(files)], { check: true })
      await workspace.snapshots.create('before')
      await workspace.exec(['python3', '-c', CHANGE(changes, files)], { check: true })
      const tree = join(bench.floorTree, 'floor-files')
      await shell(
        `mkdir -p '${tree}'; [ -e '${tree}/made' ] || { cd '${tree}'; for d in $(seq 0 99); do mkdir -p d$d; (cd d$d && seq 0 ${files / 100 - 1} | sed 's/^/f/' | xargs touch); done; touch made; }`,
      )
      const floor = await repeat(runs, () => shell(`find '${tree}' -printf '%s %T@ %m\\n' > /dev/null`))
      const subject = await repeat(runs, async () => {
        const { result } = await workspace.diff({ from: 'before' })
        if (result.totals.modified !== changes) throw new Error(`diff saw ${result.totals.modified} of ${changes}`)
      })
      if (driver === 'runc') runc = subject
      const reach = driver === 'runc' || runc === null ? '3×' : '2× of runc'
      results.push({
        what: `diff, ${changes} of ${files} files changed`,
        driver,
        subject,
        floor,
        floorName: 'one find with stat',
        reach,
        holds: reach === '3×' ? subject.medianMs <= 3 * floor.medianMs : subject.medianMs <= 2 * (runc?.medianMs ?? 0),
        note: '',
      })
    }
    return results
  },
}
