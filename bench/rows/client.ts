import { fileURLToPath } from 'node:url'
import { program } from '../floors/program.ts'
import { inTurn } from '../measure.ts'
import type { Bench, Result, Row } from '../row.ts'

const REACH_MS = 60
const PYRO = fileURLToPath(new URL('../../packages/cli/bin/pyro.js', import.meta.url))

/** `pyro workspace exec WS -- true` as a process. */
export const client: Row = {
  name: 'client',
  async run(bench: Bench): Promise<Result[]> {
    const driver = bench.drivers[0] ?? 'runc'
    await using workspace = await bench.pyro.workspaces.create({
      environment: bench.environment,
      driver: driver as 'runc',
    })
    const { subject, floor } = await inTurn(
      bench.quick ? 3 : 20,
      () => program(process.execPath, [PYRO, 'workspace', 'exec', workspace.id, '--', 'true']),
      () => program(process.execPath, ['-e', '0']),
    )
    return [
      {
        what: '`pyro workspace exec WS -- true`',
        driver,
        subject,
        floor,
        floorName: 'node -e 0',
        reach: `floor + ${REACH_MS} ms`,
        holds: subject.medianMs <= floor.medianMs + REACH_MS,
        note: '',
      },
    ]
  },
}
