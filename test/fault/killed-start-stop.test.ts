import { afterAll, beforeAll, describe, expect } from 'vitest'
import { onEveryDriver } from '../support/every-driver.ts'
import { World } from '../support/world.ts'
import { bystander, killAtEachStep, markedWorkspace, markOf } from './killed-engine.ts'

let world: World
beforeAll(async () => {
  world = await World.open()
})
afterAll(() => world[Symbol.asyncDispose]())

describe('start', () => {
  onEveryDriver('killed.start', async (driver) => {
    await using other = await bystander(world, driver)
    await using ws = await markedWorkspace(world, driver)
    await killAtEachStep(driver, {
      world,
      operation: 'workspace.start',
      undoes: true,
      prepare: async () => void (await ws.stop()),
      call: async () => {
        expect(await ws.start()).toMatchObject({ phase: 'running', failure: null })
      },
      command: () => world.cli(['workspace', 'start', ws.id]),
      after: async () => {
        expect(await ws.status()).toMatchObject({ phase: 'running', failure: null, snapshots: ['baseline', 'kept'] })
        expect(await markOf(ws)).toBe('now')
      },
    })
    await other.expectUntouched()
  })
})

describe('stop', () => {
  onEveryDriver('killed.stop', async (driver) => {
    await using other = await bystander(world, driver)
    await using ws = await markedWorkspace(world, driver)
    await killAtEachStep(driver, {
      world,
      operation: 'workspace.stop',
      undoes: false,
      prepare: async () => {
        await ws.start()
        await ws.exec(['sleep', '600'], { detach: true })
      },
      call: async () => {
        expect(await ws.stop()).toMatchObject({ phase: 'stopped', failure: null })
      },
      command: () => world.cli(['workspace', 'stop', ws.id]),
      after: async () => {
        expect(await ws.status()).toMatchObject({ phase: 'stopped', failure: null, snapshots: ['baseline', 'kept'] })
        const { at: last } = { at: (await ws.commands.list()).at(-1) }
        expect(last).toMatchObject({ state: 'interrupted', interruptedBy: 'stop' })
        await expectStopped(ws.id)
        expect(await markOf(ws)).toBe('now')
        await ws.stop()
      },
    })
    await other.expectUntouched()
  })
})

/** Nothing of it runs. */
const expectStopped = async (workspaceId: string): Promise<void> => {
  const { lines } = await world.sight()
  expect(lines.filter((line) => line.includes(workspaceId))).toEqual([])
}
