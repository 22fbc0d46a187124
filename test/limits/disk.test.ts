import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect } from 'vitest'
import { createOn } from '../support/driver-workspaces.ts'
import { onEveryDriver } from '../support/every-driver.ts'
import { rejectionOf } from '../support/rejection.ts'
import { World } from '../support/world.ts'

const MIB = 1024 * 1024
const DISK_MIB = 128
/** What the filesystem needs beside the content of files. */
const SLACK_MIB = 4
/** Btrfs holds what files contain to the limit, and charges the nodes that it rewrites for them, of 16 KiB, afterwards. */
const NODES_BYTES = 4 * 16 * 1024
const FILL = `head -c ${2 * DISK_MIB}M /dev/zero > /workspace/full`

let world: World
beforeAll(async () => {
  world = await World.open({ disk: 'btrfs' })
})
afterAll(() => world[Symbol.asyncDispose]())

describe('disk', () => {
  onEveryDriver('limit.disk', async (driver) => {
    await using ws = await createOn(world, driver, { diskMib: DISK_MIB })
    expect(await ws.status()).toMatchObject({ diskMib: DISK_MIB, limits: { disk: 'enforced' } })
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
    // What a snapshot holds stays counted for the disk that wrote it.
    expect(await ws.exec('rm /workspace/full && head -c 8M /dev/zero > /workspace/after')).toMatchObject({
      limit: 'disk',
    })
    await ws.reset({ snapshot: 'full' })
    expect((await ws.exec('ls', { check: true })).stdout).toBe('before\nfull\n')
    await ws.reset()
    expect((await ws.exec('ls', { check: true })).stdout).toBe('')
  })

  onEveryDriver('limit.disk-exact', async (driver) => {
    await using neighbour = await createOn(world, driver, { diskMib: DISK_MIB })
    await using ws = await createOn(world, driver, { diskMib: DISK_MIB })
    await ws.exec(FILL)
    const size = await ws.exec('stat -c %s /workspace/full', { check: true })
    const sizeMib = Number(size.stdout) / MIB
    expect(sizeMib).toBeLessThanOrEqual(DISK_MIB)
    expect(sizeMib).toBeGreaterThan(DISK_MIB - SLACK_MIB)
    expect((await ws.status()).diskBytes).toBeLessThanOrEqual(DISK_MIB * MIB + NODES_BYTES)
    // What was removed can be written again.
    await ws.exec('rm /workspace/full; sync', { check: true })
    const half = `head -c ${DISK_MIB / 2}M /dev/zero > half && sync half`
    await expect.poll(async () => (await ws.exec(half)).exitCode, { timeout: 20_000 }).toBe(0)
    const whole = `head -c ${DISK_MIB - SLACK_MIB}M /dev/zero > /workspace/whole && sync /workspace/whole`
    await neighbour.exec(whole, { check: true })
    // A reset begins anew, however much its snapshot holds.
    await neighbour.reset({ saveAs: 'whole' })
    await neighbour.reset({ snapshot: 'whole' })
    await neighbour.exec(`head -c ${DISK_MIB / 2}M /dev/zero > more && sync more`, { check: true })
  })
})
