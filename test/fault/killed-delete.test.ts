import type { Workspace } from '@pyro/sdk'
import { afterAll, beforeAll, describe, expect } from 'vitest'
import { onEveryDriver } from '../support/every-driver.ts'
import { World } from '../support/world.ts'
import { bystander, killAtEachStep, markedWorkspace } from './killed-engine.ts'

let world: World
beforeAll(async () => {
  world = await World.open()
})
afterAll(() => world[Symbol.asyncDispose]())

describe('delete', () => {
  onEveryDriver('killed.delete', async (driver) => {
    await using other = await bystander(world, driver)
    const doomed: Workspace[] = []
    await killAtEachStep(driver, {
      world,
      operation: 'workspace.delete',
      undoes: false,
      prepare: async () => {
        const ws = await markedWorkspace(world, driver)
        await ws.exec(['sleep', '600'], { detach: true })
        doomed.push(ws)
      },
      call: async () => {
        const id = doomed.at(-1)?.id ?? ''
        const { deleted, errors } = await world.pyro.workspaces.delete([id])
        expect(errors).toEqual([])
        expect(deleted).toMatchObject([{ workspaceId: id, snapshots: 1 }])
      },
      command: () => world.cli(['workspace', 'delete', doomed.at(-1)?.name ?? '']),
      after: async () => {
        expect(await world.pyro.workspaces.list()).toHaveLength(1)
      },
    })
    await other.expectUntouched()
  })
})
