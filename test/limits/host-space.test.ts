import { describe, expect } from 'vitest'
import type { Workspace } from '@pyro/sdk'
import { createOn } from '../support/driver-workspaces.ts'
import { onEveryDriver } from '../support/every-driver.ts'
import { rejectionOf } from '../support/rejection.ts'
import { SmallHost } from '../support/small-host.ts'
import { World } from '../support/world.ts'

const HOST_MIB = 640
const STEP_MIB = 256

/** In pieces: a pool that is about to grow refuses what comes too fast. */
const fillPool = async (ws: Workspace): Promise<void> => {
  const piece = 'for try in 1 2 3 4 5 6; do head -c 32M /dev/zero >> full && exit 0; sleep 0.5; done; exit 1'
  while ((await ws.exec(piece)).limit !== 'disk');
}

describe('a host without space', () => {
  onEveryDriver('limit.host-space', async (driver) => {
    await using host = await SmallHost.make(HOST_MIB)
    await using world = await World.open({
      within: host.folder,
      env: { PYRO_POOL_STEP_MIB: String(STEP_MIB), PYRO_HOST_RESERVE_MIB: '64' },
    })
    await using ws = await createOn(world, driver)
    await using neighbour = await createOn(world, driver)
    await neighbour.exec('echo before > /workspace/before', { check: true })
    const running = await neighbour.exec('while [ ! -e go ]; do sleep 0.1; done; echo over', { detach: true })
    const caller = neighbour.exec('sleep 2; echo done')
    // The pool grows as far as the host lets it; then writing stops for all, and whoever writes is told why.
    await fillPool(ws)
    expect(await neighbour.exec('head -c 8M /dev/urandom > more')).toMatchObject({ exitCode: 1, limit: 'disk' })
    expect((await neighbour.exec('cat before', { check: true })).stdout).toBe('before\n')
    const refused = await rejectionOf(createOn(world, driver))
    expect(refused).toMatchObject({ code: 'disk.full' })
    expect((refused as { hint: string | null }).hint).toContain('free space on the host')
    await using filled = await host.fill()
    expect(await caller).toMatchObject({ exitCode: 0, stdout: 'done\n' })
    expect(await world.pyro.workspaces.list()).toHaveLength(2)
    expect(await neighbour.status()).toMatchObject({ phase: 'running', generation: 1, failure: null })

    // Nobody loses anything by an engine that starts now.
    await world.restartEngine()
    expect(await world.pyro.workspaces.list()).toHaveLength(2)
    expect((await neighbour.diff()).result.entries.map(({ path }) => path)).toContain('before')

    await filled[Symbol.asyncDispose]()
    expect((await ws.exec('rm -f full; grep " / " /proc/mounts', { check: true })).stdout).not.toMatch(/ ro[, ]/)
    await neighbour.exec('touch go', { check: true })
    expect(await running.wait({ timeoutMs: 30_000 })).toMatchObject({ exitCode: 0, stdout: 'over\n' })
    await neighbour.exec(`head -c ${STEP_MIB / 8}M /dev/urandom > more && sync more`, { check: true })
    await neighbour.reset()
    expect((await neighbour.exec('ls', { check: true })).stdout).toBe('')
  })
})
