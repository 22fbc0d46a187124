import { program, shell } from '../floors/program.ts'
import { repeat } from '../measure.ts'
import type { Bench, Result, Row } from '../row.ts'

/** What podman takes for the same steps, where it is installed. */
export const podman: Row = {
  name: 'podman',
  async run(bench: Bench): Promise<Result[]> {
    if (bench.containers.length === 0) return []
    if ((await shell('command -v podman || true')).trim() === '') return []
    const runs = bench.quick ? 1 : 3
    const flags = '--runtime runc --network none --rootfs'
    const result = (what: string, subject: Result['subject']): Result => ({
      what: `podman: ${what}`,
      driver: 'podman + runc',
      subject,
      floor: null,
      floorName: '',
      reach: 'shown',
      holds: null,
      note: '',
    })
    const remove = (): Promise<string> => shell('podman rm -f -t 0 floor >/dev/null 2>&1 || true')
    await remove()
    const started = await repeat(
      runs,
      () => shell(`podman run -d --name floor ${flags} '${bench.floorTree}' sleep inf`),
      remove,
    )
    await shell(`podman run -d --name floor ${flags} '${bench.floorTree}' sleep inf`)
    const exec = await repeat(runs, () => program('podman', ['exec', 'floor', 'true']))
    const commit = await repeat(
      runs,
      () => shell('podman commit -q floor floor-image'),
      () => shell('podman rmi -f floor-image >/dev/null 2>&1 || true'),
    )
    await remove()
    return [result('run -d', started), result('exec of `true`', exec), result('commit', commit)]
  },
}
