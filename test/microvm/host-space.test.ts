import type { Workspace } from '@pyro/sdk'
import { describe, expect, test } from 'vitest'
import { createOn } from '../support/driver-workspaces.ts'
import { World } from '../support/world.ts'

const POOL_MIB = 768
const RESERVE = 'PYRO_HOST_RESERVE_MIB'
const NO_GROWTH_MIB = '1000000000'
const GROWTH_MIB = '256'
const PATIENCE_MS = 60_000

const smallPool = (): Promise<World> => World.open({ disk: 'btrfs', env: { PYRO_POOL_STEP_MIB: String(POOL_MIB) } })

const expectHeld = async (ws: Workspace): Promise<void> => {
  await expect
    .poll(async () => (await ws.status()).failure, { timeout: PATIENCE_MS })
    .toMatchObject({ code: 'disk.full', message: expect.stringContaining('held') as string })
  expect(await ws.status()).toMatchObject({ phase: 'running', generation: 1 })
}

/** More than the pool has room for. */
const WRITE = `head -c ${POOL_MIB}M /dev/zero > fill && sync fill && echo written`

describe('on a host without space a machine', () => {
  test(
    'is held while it writes, which its status says, and goes on when there is room',
    { timeout: 240_000 },
    async () => {
      await using world = await smallPool()
      await using ws = await createOn(world, 'qemu')
      await ws.exec('echo before > before; sync before', { check: true })
      await world.restartEngine({ [RESERVE]: NO_GROWTH_MIB })
      const writing = await ws.exec(WRITE, { detach: true })
      await expectHeld(ws)
      // An engine that starts now finds it so.
      await world.restartEngine()
      await expectHeld(ws)
      await world.restartEngine({ [RESERVE]: GROWTH_MIB })
      expect(await writing.wait({ timeoutMs: PATIENCE_MS })).toMatchObject({ exitCode: 0, stdout: 'written\n' })
      // The command may end before the engine has looked again.
      await expect.poll(async () => (await ws.status()).failure, { timeout: PATIENCE_MS }).toBeNull()
      expect(await ws.status()).toMatchObject({ phase: 'running', generation: 1 })
      expect((await ws.exec('cat before; grep " / " /proc/mounts', { check: true })).stdout).toMatch(
        /^before\n\S+ \/ ext4 rw/,
      )
    },
  )

  test('that is held is left by a reset once there is room', { timeout: 240_000 }, async () => {
    await using world = await smallPool()
    await using ws = await createOn(world, 'qemu')
    await ws.exec('echo kept > kept', { check: true })
    await ws.snapshots.create('kept')
    await world.restartEngine({ [RESERVE]: NO_GROWTH_MIB })
    await ws.exec(WRITE, { detach: true })
    await expectHeld(ws)
    await expect(ws.reset({ snapshot: 'kept' })).rejects.toMatchObject({ code: 'disk.full' })
    await world.restartEngine({ [RESERVE]: GROWTH_MIB })
    await ws.reset({ snapshot: 'kept' })
    expect((await ws.exec('ls', { check: true })).stdout).toBe('kept\n')
    expect(await ws.status()).toMatchObject({ failure: null })
  })
})
