import { readFileSync } from 'node:fs'
import type { Workspace } from '@pyro/sdk'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { cutOff } from '../fault/outside.ts'
import { createOn } from '../support/driver-workspaces.ts'
import { TemporaryFolder, transferred } from '../support/host-tree.ts'
import { listHost, listInside, listingDifference } from '../support/lister.ts'
import { World } from '../support/world.ts'

/** Folders with an index, files in pieces, holes, blocks that were promised and never written, links of both lengths. */
const AWKWARD = `
mkdir many pieces; cd many
long=$(printf 'n%.0s' $(seq 60))
for n in $(seq 3000); do : > $long$n; done
for n in $(seq 1 2 3000); do rm $long$n; done
cd ../pieces
for n in $(seq 40); do head -c 40000 /dev/urandom >> one; head -c 4096 /dev/urandom >> other; sync; done
truncate -s 20000003 sparse; echo middle | dd of=sparse bs=1 seek=9000000 conv=notrunc status=none
fallocate -l 3000000 promised; echo start | dd of=promised conv=notrunc status=none
fallocate -n -l 900000 other
ln -s short link; ln -s $(printf 'l%.0s' $(seq 200)) longer; ln one again; touch -d '1931-02-03 04:05:06' again`

const MACHINE_LOOKS = 'a machine has to look at the disk'

let world: World
beforeAll(async () => {
  world = await World.open()
})
afterAll(() => world[Symbol.asyncDispose]())

const expectExported = async (
  ws: Workspace,
  path: string,
  options: { readonly snapshot?: string } = {},
): Promise<void> => {
  using target = new TemporaryFolder()
  await ws.export(path, { output: target.at('out'), ...options })
  const inside = transferred(await listInside(ws, path), '0:0')
  expect(listingDifference(inside, transferred(await listHost(target.at('out')), '0:0'))).toEqual([])
}

describe('an export of a disk', () => {
  test('is read without a machine, however the kernel inside laid its files', async () => {
    await using ws = await createOn(world, 'qemu', { diskMib: 1024 })
    await ws.exec(AWKWARD, { check: true })
    await expectExported(ws, '/workspace')
    await expectExported(ws, '/usr')
    await ws.snapshots.create('kept')
    await expectExported(ws, '/workspace/many', { snapshot: 'kept' })
    await ws.stop()
    using target = new TemporaryFolder()
    expect(await ws.export('/workspace/many', { output: target.at('out') })).toMatchObject({ files: 1500 })
    expect(world.engineLog()).not.toContain(MACHINE_LOOKS)
  })

  test('of a machine that was cut off is read by another, which replays its journal', async () => {
    await using ws = await createOn(world, 'qemu', { diskMib: 512 })
    await ws.exec('echo kept > kept; sync; for n in $(seq 200); do echo $n > file$n; done', { check: true })
    await cutOff(world, ws)
    using target = new TemporaryFolder()
    await ws.export('/workspace/kept', { output: target.at('out') })
    expect(readFileSync(target.at('out'), 'utf8')).toBe('kept\n')
    expect(world.engineLog()).toContain(MACHINE_LOOKS)
  })
})
