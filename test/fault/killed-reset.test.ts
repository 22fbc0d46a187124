import { afterAll, beforeAll, describe, expect } from 'vitest'
import { onEveryDriver } from '../support/every-driver.ts'
import { World } from '../support/world.ts'
import { bystander, killAtEachStep, markedWorkspace, markOf } from './killed-engine.ts'

let world: World
beforeAll(async () => {
  world = await World.open()
})
afterAll(() => world[Symbol.asyncDispose]())

describe('reset', () => {
  onEveryDriver('killed.reset', async (driver) => {
    await using other = await bystander(world, driver)
    await using ws = await markedWorkspace(world, driver)
    const request = { snapshot: 'kept', saveAs: 'saved' }
    await killAtEachStep(driver, {
      world,
      operation: 'workspace.reset',
      undoes: true,
      prepare: async () => {
        await ws.exec('echo now > /workspace/mark; sync', { check: true })
        await ws.exec(['sleep', '600'], { detach: true })
      },
      call: async () => {
        expect(await ws.reset(request)).toMatchObject({ snapshot: 'kept', savedAs: 'saved' })
      },
      command: () => world.cli(['workspace', 'reset', ws.id, '--snapshot', 'kept', '--save-as', 'saved']),
      after: async () => {
        expect(await ws.status()).toMatchObject({
          phase: 'running',
          failure: null,
          commandCount: 0,
          lastResetSnapshot: 'kept',
          snapshots: ['baseline', 'kept', 'saved'],
        })
        expect(await markOf(ws)).toBe('kept')
        await ws.reset({ snapshot: 'saved' })
        expect(await markOf(ws)).toBe('now')
        await ws.snapshots.delete('saved')
      },
    })
    await other.expectUntouched()
  })
})
