// `held-run.ts DRIVER…`: a run with a workspace on each driver. Says `ready` and waits for the end of its input, then looks whether
// all is as it was.
import assert from 'node:assert/strict'
import { text } from 'node:stream/consumers'
import type { TestedDriver } from '@pyro/driver-testkit'
import { createOn } from '../support/driver-workspaces.ts'
import { HostRun } from '../support/host-run.ts'
import { ENVIRONMENT, World } from '../support/world.ts'

/** As probes of drivers start theirs: of a machine, the template is there. */
const TRIED = { memoryMib: 256, diskMib: 512, vcpus: 1 } as const

const drivers = process.argv.slice(2) as TestedDriver[]

using _run = await HostRun.begin()
// Without a loop device: those of other runs on this host, who copy all mounts, would keep it for a while.
await using world = await World.open({ disk: 'copy' })
await world.pyro.environments.pull(ENVIRONMENT)
const held = await Promise.all(drivers.map((driver) => createOn(world, driver, TRIED)))
for (const ws of held) await ws.exec('echo held > held', { check: true })
const engine = await world.enginePid()
process.stdout.write('ready\n')
await text(process.stdin)
assert.equal(await world.enginePid(), engine)
for (const ws of held) {
  assert.equal((await ws.exec('cat held')).stdout, 'held\n')
  assert.equal((await ws.status()).generation, 1)
}
