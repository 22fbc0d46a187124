import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Workspace } from '@pyro/sdk'
import type { TestedDriver } from '@pyro/driver-testkit'
import { afterAll, beforeAll, describe, expect } from 'vitest'
import { createOn } from '../support/driver-workspaces.ts'
import { onEveryDriver } from '../support/every-driver.ts'
import { rejectionOf } from '../support/rejection.ts'
import { ENVIRONMENT, World } from '../support/world.ts'

const MIB = 1024 * 1024
const DISK_MIB = 128
/** What the filesystem needs beside the content of files. */
const SLACK_MIB = 4
/** Btrfs holds what files contain to the limit, and charges the nodes that it rewrites for them, of 16 KiB, afterwards. */
const NODES_BYTES = 4 * 16 * 1024
const FILL = `head -c ${2 * DISK_MIB}M /dev/zero > /workspace/full`
/** Of an ext4 filesystem of a few hundred MiB: its journal and inodes. */
const FILESYSTEM_MIB = 48

let world: World
beforeAll(async () => {
  world = await World.open({ disk: 'btrfs' })
})
afterAll(() => world[Symbol.asyncDispose]())

/** A disk with room for as much on every driver: that of a machine holds its environment, too. */
const diskMibOn = async (driver: TestedDriver): Promise<number> => {
  if (driver !== 'qemu') return DISK_MIB
  const { sizeBytes } = await world.pyro.environments.inspect(ENVIRONMENT)
  return DISK_MIB + FILESYSTEM_MIB + Math.ceil(Number(sizeBytes) / MIB)
}

/** What can be written to a new disk. */
const roomMibOn = async (driver: TestedDriver, ws: Workspace): Promise<number> => {
  if (driver !== 'qemu') return DISK_MIB
  const { stdout } = await ws.exec('df --block-size=1 --output=avail / | tail -n 1', { check: true })
  return Number(stdout) / MIB
}

describe('disk', () => {
  onEveryDriver('limit.disk', async (driver) => {
    const diskMib = await diskMibOn(driver)
    await using ws = await createOn(world, driver, { diskMib })
    expect(await ws.status()).toMatchObject({ diskMib, limits: { disk: 'enforced' } })
    await ws.exec('echo before > /workspace/before', { check: true })
    const full = await ws.exec(FILL)
    expect(full).toMatchObject({ exitCode: 1, limit: 'disk' })
    expect(full.stderr).toMatch(/Disk quota exceeded|No space left on device/)
    const small = await ws.exec('head -c 10M /dev/urandom > /tmp/more')
    expect(small).toMatchObject({ limit: 'disk' })
    // A failure that has nothing to do with it still happens on a full disk.
    expect((await ws.exec('cat /workspace/before', { check: true })).stdout).toBe('before\n')
    const write = await rejectionOf(ws.files.write('/workspace/more', 'x'.repeat(4 * MIB)))
    expect(write).toMatchObject({ code: 'disk.full' })
    expect((write as { hint: string | null }).hint).toBeTruthy()
    expect((await ws.files.read('/workspace/before')).text).toBe('before\n')
    expect(await ws.status()).toMatchObject({ phase: 'running', generation: 1, failure: null })
    const { result } = await ws.diff({ patch: false })
    expect(result.entries.map(({ path }) => path)).toEqual(['before', 'full'])
    const output = join(world.folder, `before-${driver}`)
    await ws.export('/workspace/before', { output })
    expect(readFileSync(output, 'utf8')).toBe('before\n')
    await ws.snapshots.create('full')
    await ws.stop()
    await ws.start()
    expect(await ws.exec('head -c 8M /dev/zero > /workspace/after')).toMatchObject({ limit: 'disk' })
    await ws.reset({ snapshot: 'full' })
    expect((await ws.exec('ls', { check: true })).stdout).toBe('before\nfull\n')
    await ws.reset()
    expect((await ws.exec('ls', { check: true })).stdout).toBe('')
  })

  onEveryDriver('limit.disk-exact', async (driver) => {
    const diskMib = await diskMibOn(driver)
    await using neighbour = await createOn(world, driver, { diskMib })
    await using ws = await createOn(world, driver, { diskMib })
    const roomMib = await roomMibOn(driver, ws)
    await ws.exec(FILL)
    const size = await ws.exec('stat -c %s /workspace/full', { check: true })
    const sizeMib = Number(size.stdout) / MIB
    expect(sizeMib).toBeLessThanOrEqual(roomMib)
    expect(sizeMib).toBeGreaterThan(roomMib - SLACK_MIB)
    expect((await ws.status()).diskBytes).toBeLessThanOrEqual(diskMib * MIB + NODES_BYTES)
    // What was removed can be written again.
    await ws.exec('rm /workspace/full; sync', { check: true })
    const half = `head -c ${DISK_MIB / 2}M /dev/zero > half && sync half`
    await expect.poll(async () => (await ws.exec(half)).exitCode, { timeout: 20_000 }).toBe(0)
    const whole = `head -c ${Math.floor(roomMib) - SLACK_MIB}M /dev/zero > /workspace/whole && sync /workspace/whole`
    await neighbour.exec(whole, { check: true })
  })

  onEveryDriver('limit.disk-snapshots', async (driver) => {
    await using ws = await createOn(world, driver, { diskMib: DISK_MIB })
    const most = `head -c ${DISK_MIB - SLACK_MIB}M /dev/zero > /workspace/most && sync /workspace/most`
    await ws.exec(most, { check: true })
    await ws.snapshots.create('most')
    expect(await ws.exec('rm /workspace/most && head -c 8M /dev/zero > /workspace/after')).toMatchObject({
      limit: 'disk',
    })
    await ws.reset({ snapshot: 'most' })
    await ws.exec(`head -c ${DISK_MIB / 2}M /dev/zero > more && sync more`, { check: true })
  })
})
