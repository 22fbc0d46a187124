import { afterAll, beforeAll, describe, expect } from 'vitest'
import { onEveryDriver } from '../support/every-driver.ts'
import { World } from '../support/world.ts'
import { bystander, killAtEachStep, markedWorkspace, markOf } from './killed-engine.ts'

let world: World
beforeAll(async () => {
  world = await World.open()
})
afterAll(() => world[Symbol.asyncDispose]())

describe('snapshot create', () => {
  onEveryDriver('killed.snapshot', async (driver) => {
    await using other = await bystander(world, driver)
    await using ws = await markedWorkspace(world, driver)
    let serial = 0
    await killAtEachStep(driver, {
      world,
      operation: 'workspace.snapshot.create',
      undoes: true,
      // Replaces the snapshot of the case before.
      prepare: async () => void (await ws.exec(`echo ${++serial} > /workspace/mark; sync`, { check: true })),
      call: async () => {
        const { replaced } = await ws.snapshots.create('fresh', { replace: true })
        expect(replaced).toBe(serial > 1)
      },
      command: () => world.cli(['workspace', 'snapshot', 'create', ws.id, 'fresh', '--replace']),
      after: async () => {
        const names = (await ws.snapshots.list()).map(({ name }) => name)
        expect(names).toEqual(['baseline', 'kept', 'fresh'])
        expect(await markOf(ws)).toBe(String(serial))
        await ws.reset({ snapshot: 'kept' })
        expect(await markOf(ws)).toBe('kept')
        await ws.reset({ snapshot: 'fresh' })
        expect(await markOf(ws)).toBe(String(serial))
      },
    })
    await other.expectUntouched()
  })
})
