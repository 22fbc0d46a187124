/**
 * `npm run bench [-- --quick] [-- --only create,exec] [-- --driver runc] [-- --json FILE]`
 *
 * Without `--driver` runc and runsc are measured; a driver of machines has rows of its own.
 *
 * Measures through the SDK, beside the floor of each figure in the same run, in a home of its own. Prints medians as a table and
 * writes everything as JSON. Nothing here is asserted: figures are for reading.
 */
import { mkdir, mkdtemp, writeFile } from 'node:fs/promises'
import { cpus, release, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { Pyro } from '@pyro/sdk'
import { HostRun } from '../test/support/host-run.ts'
import { shell } from './floors/program.ts'
import type { Bench, Result, Row } from './row.ts'
import { bulk } from './rows/bulk.ts'
import { client } from './rows/client.ts'
import { coldBoot } from './rows/cold-boot.ts'
import { create } from './rows/create.ts'
import { diff } from './rows/diff.ts'
import { exec } from './rows/exec.ts'
import { memory } from './rows/memory.ts'
import { pause } from './rows/pause.ts'
import { podman } from './rows/podman.ts'
import { scale } from './rows/scale.ts'
import { snapshot } from './rows/snapshot.ts'
import { transfer } from './rows/transfer.ts'
import { markdownTable } from './table.ts'

const ROWS: readonly Row[] = [
  create,
  coldBoot,
  exec,
  snapshot,
  pause,
  diff,
  bulk,
  transfer,
  memory,
  client,
  scale,
  podman,
]
const ENVIRONMENT = 'debian:12'
const CONTAINERS = ['runc', 'runsc']
const MACHINES = ['qemu']

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    only: { type: 'string' },
    driver: { type: 'string', multiple: true },
    json: { type: 'string', default: 'bench-results.json' },
  },
})

using run = await HostRun.begin()
process.env['PYRO_RUNTIME_DIR'] = run.runtimeDir
const scratch = await mkdtemp(join(tmpdir(), 'pyro-bench-'))
process.env['PYRO_HOME'] = join(scratch, 'home')
await mkdir(join(scratch, 'home'))
const asked = values.driver ?? CONTAINERS

const pyro = await Pyro.connect()
try {
  console.error('preparing …')
  await pyro.environments.pull(ENVIRONMENT)
  const doctor = await pyro.doctor()
  const works = (driver: string): boolean => doctor.capabilities.some((it) => it.id === `driver-${driver}` && it.ok)
  const drivers = asked.filter(works)
  const floorTree = join(scratch, 'floor-tree')
  const bench: Bench = {
    pyro,
    drivers,
    containers: drivers.filter((driver) => CONTAINERS.includes(driver)),
    machines: drivers.filter((driver) => MACHINES.includes(driver)),
    environment: ENVIRONMENT,
    floorTree,
    scratch,
    quick: values.quick,
  }
  await mkdir(floorTree)
  if (bench.containers.length > 0) await exportTree(floorTree)
  const only = values.only?.split(',')
  const results: Result[] = []
  for (const row of ROWS) {
    if (only !== undefined && !only.includes(row.name)) continue
    console.error(`${row.name} …`)
    results.push(...(await row.run(bench)))
  }
  console.log(markdownTable(results))
  const machine = { cpus: cpus().length, model: cpus()[0]?.model, kernel: release(), node: process.version }
  await writeFile(values.json, JSON.stringify({ machine, drivers, results }, null, 2))
} finally {
  await pyro.workspaces.delete([], { all: true })
  await pyro.engine.shutdown({ workspaces: true })
  pyro.close()
}

/** The environment's tree on the host's own disk, shifted to the ids of sandboxes, for the floors. */
async function exportTree(target: string): Promise<void> {
  await using workspace = await pyro.workspaces.create({ environment: ENVIRONMENT, driver: 'runc' })
  const tar = join(scratch, 'floor.tar')
  await workspace.export('/', { output: tar, format: 'tar' })
  await shell(
    `tar -C '${target}' --numeric-owner --strip-components=1 -xf '${tar}'; chown -hR 1073741824:1073741824 '${target}'; chmod 755 '${scratch}'; mkdir -p '${target}'/{proc,dev,sys,tmp}; rm '${tar}'`,
  )
}
