import type { Workspace } from '@pyro/sdk'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect } from 'vitest'
import { createOn } from '../support/driver-workspaces.ts'
import { onEveryDriver } from '../support/every-driver.ts'
import { SmallHost } from '../support/small-host.ts'
import { World } from '../support/world.ts'

const HOST_MIB = 640
const ENV = { PYRO_POOL_STEP_MIB: '256', PYRO_HOST_RESERVE_MIB: '64' }
/** How long an operation that finds no space may be about it before there is some again. */
const FULL_MS = 800
/** Blocks of 4 KiB that an operation finds: at which of its writes it fails depends on them. */
const TRIES = [
  ...[0, 4, 8, 12, 16, 20, 22, 24].map((blocks) => ['reset', blocks] as const),
  ...[0, 3, 4, 6].map((blocks) => ['stop', blocks] as const),
  ...[0, 1, 2].map((blocks) => ['update', blocks] as const),
  ['write', 0] as const,
]

const contentOf = async (ws: Workspace): Promise<string> =>
  (await ws.exec('cat /workspace/*', { check: true })).stdout.trim()

describe('the state on a host without space', () => {
  onEveryDriver('limit.state-space', async (driver) => {
    await using host = await SmallHost.make(HOST_MIB)
    await using world = await World.open({ within: host.folder, env: ENV })
    await using ws = await createOn(world, driver)
    const other = await createOn(world, driver)
    await ws.exec('echo first > /workspace/mark', { check: true })
    await ws.snapshots.create('first')
    await using _filled = await host.fill()
    for (let round = 0; round < 40; round++) await ws.update({ labels: { round: String(round) } })
    await ws.files.write('/workspace/mark', 'second\n')
    expect(await contentOf(ws)).toBe('second')
    expect(await ws.reset({ snapshot: 'first', saveAs: 'second' })).toMatchObject({ savedAs: 'second' })
    expect(await contentOf(ws)).toBe('first')
    await ws.stop()
    await ws.start()
    await ws.update({ name: `renamed-${driver}` })
    expect(await world.pyro.workspaces.get(`renamed-${driver}`)).toMatchObject({ id: ws.id })
    await ws.snapshots.delete('first')
    await other.delete()
    expect((await world.pyro.workspaces.list()).map(({ workspaceId }) => workspaceId)).toEqual([ws.id])
    await ws.reset({ snapshot: 'second' })
    expect(await contentOf(ws)).toBe('second')
  })

  onEveryDriver('limit.state-unwritten', async (driver) => {
    await using host = await SmallHost.make(HOST_MIB)
    await using world = await World.open({ within: host.folder, env: { ...ENV, PYRO_STATE_RESERVE_MIB: '0' } })
    await using ws = await createOn(world, driver)
    await ws.exec('echo kept > /workspace/mark', { check: true })
    await ws.snapshots.create('kept')
    const outcomes = new Set<string>()
    for (const [round, [what, blocks]] of TRIES.entries()) {
      await ws.exec(`echo ${round} > /workspace/mark`, { check: true })
      const name = `n${round}-${driver}`
      const works = {
        reset: () => ws.reset({ snapshot: 'kept' }),
        stop: () => ws.stop(),
        update: () => ws.update({ name }),
        write: () => ws.files.write('/workspace/mark', 'written\n'),
      }
      const before = await ws.status()
      const filled = await host.fill(blocks)
      const ended: Promise<string> = works[what]().then(
        () => 'done',
        (error: unknown) => String((error as { code?: string }).code),
      )
      await Promise.race([ended, sleep(FULL_MS)])
      await filled[Symbol.asyncDispose]()
      const outcome = await ended
      outcomes.add(outcome)
      const isDone = (one: string): boolean => outcome === 'done' && what === one
      const after = await ws.status()
      expect(after).toMatchObject({
        phase: isDone('stop') ? 'stopped' : 'running',
        resetCount: before.resetCount + (isDone('reset') ? 1 : 0),
        name: isDone('update') ? name : before.name,
      })
      const content = isDone('reset') ? 'kept' : isDone('write') ? 'written' : String(round)
      expect((await ws.exec('cat /workspace/mark', { check: true })).stdout.trim()).toBe(content)
      expect((await world.pyro.workspaces.get(after.name)).id).toBe(ws.id)
    }
    expect([...outcomes].sort()).toEqual(['disk.full', 'done'])
    expect((await world.pyro.doctor({ leaks: true })).leaks).toEqual([])
  })
})
