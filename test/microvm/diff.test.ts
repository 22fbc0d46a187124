import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { cutOff } from '../fault/outside.ts'
import { createOn } from '../support/driver-workspaces.ts'
import { World } from '../support/world.ts'

const MACHINE_LOOKS = 'a machine has to look at the disk'

/** A folder with an index, holes, links, a device and a pipe. */
const AWKWARD = `
set -e
mkdir many; cd many; for n in $(seq 1500); do : > $n; done; cd ..
truncate -s 20000003 sparse; echo same > same; echo old > content; ln same linked
for file in small large; do : > $file; done
mknod device c 4 7; mkfifo pipe; ln -s one link`

const CHANGED = `
set -e
echo middle | dd of=sparse bs=1 seek=9000000 conv=notrunc status=none
echo new > content; touch same; chown 7:8 small; chmod 600 large; rm many/700; : > many/new
rm device; mknod device c 4 8; ln -sfn two link; rm pipe; mkdir pipe`

let world: World
beforeAll(async () => {
  world = await World.open()
})
afterAll(() => world[Symbol.asyncDispose]())

describe('a diff of disks', () => {
  test('is read without a machine', async () => {
    await using ws = await createOn(world, 'qemu', { diskMib: 1024 })
    await ws.exec(AWKWARD, { check: true })
    await ws.snapshots.create('before')
    await ws.exec(CHANGED, { check: true })
    const changed = async (): Promise<string[]> =>
      (await ws.diff({ from: 'before' })).result.entries.map(({ path, status }) => `${status} ${path}`)
    const expected = [
      'modified content',
      'modified device',
      'modified large',
      'modified link',
      'deleted many/700',
      'added many/new',
      'typeChanged pipe',
      'modified small',
      'modified sparse',
    ]
    expect(await changed()).toEqual(expected)
    await ws.stop()
    expect(await changed()).toEqual(expected)
    expect((await ws.diff({ from: 'before', to: 'before', root: '/' })).result.clean).toBe(true)
    expect(world.engineLog()).not.toContain(MACHINE_LOOKS)
  })

  test('of a machine that was cut off is made by another, which replays its journal', async () => {
    await using ws = await createOn(world, 'qemu', { diskMib: 512 })
    await ws.exec('echo kept > kept; sync; for n in $(seq 200); do echo $n > file$n; done', { check: true })
    await cutOff(world, ws)
    expect((await ws.diff({ paths: ['kept'] })).patch.toString()).toContain('+kept\n')
    expect(world.engineLog()).toContain(MACHINE_LOOKS)
  })
})
