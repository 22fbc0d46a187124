import { afterAll, beforeAll, expect, test } from 'vitest'
import { createOn } from '../support/driver-workspaces.ts'
import { World } from '../support/world.ts'

const PATIENCE_MS = 60_000

let world: World
beforeAll(async () => {
  world = await World.open()
})
afterAll(() => world[Symbol.asyncDispose]())

/** From a control group beside that of the commands. */
const FREEZE = `
mountpoint -q /sys/fs/cgroup || mount -t cgroup2 none /sys/fs/cgroup
commands=/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)
mkdir /sys/fs/cgroup/beside
echo $$ > /sys/fs/cgroup/beside/cgroup.procs
echo 1 > $commands/cgroup.freeze
until grep -q 'frozen 1' $commands/cgroup.events; do sleep 0.1; done
cat $commands/cgroup.events
`

test('a machine whose root has frozen its commands starts others and kills those', async () => {
  await using ws = await createOn(world, 'qemu')
  const still = await ws.exec('sleep 1000', { detach: true })
  expect((await ws.exec(FREEZE, { check: true })).stdout).toContain('frozen 1')
  const signal = AbortSignal.timeout(PATIENCE_MS)
  expect((await ws.exec('echo started', { check: true, signal })).stdout).toBe('started\n')
  expect(await still.kill('KILL')).toMatchObject({ signal: 'KILL' })
})

test('a machine whose root has stopped, or ended, every process there is starts others at once', async () => {
  await using ws = await createOn(world, 'qemu')
  for (const signalName of ['STOP', 'TERM', 'KILL']) {
    await ws.exec(`kill -${signalName} -1`)
    const signal = AbortSignal.timeout(PATIENCE_MS)
    expect((await ws.exec('echo started', { check: true, signal })).stdout).toBe('started\n')
  }
})
