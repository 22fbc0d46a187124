import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect } from 'vitest'
import { onEveryDriver } from '../support/every-driver.ts'
import { ENVIRONMENT, World } from '../support/world.ts'
import { bystander, killAtEachStep, SMALL } from './killed-engine.ts'

let world: World
let seed: string
beforeAll(async () => {
  world = await World.open()
  seed = join(world.folder, 'seed')
  mkdirSync(seed)
  writeFileSync(join(seed, 'file'), 'seeded\n')
})
afterAll(() => world[Symbol.asyncDispose]())

describe('create', () => {
  onEveryDriver('killed.create', async (driver) => {
    await using other = await bystander(world, driver)
    const size = ['--memory-mib', String(SMALL.memoryMib), '--disk-mib', String(SMALL.diskMib)]
    await killAtEachStep(driver, {
      world,
      operation: 'workspace.create',
      undoes: true,
      prepare: () => Promise.resolve(),
      call: async () => {
        const options = { environment: ENVIRONMENT, driver, name: 'made', seed: { path: seed }, ...SMALL, keep: true }
        expect(await world.pyro.workspaces.create(options)).toMatchObject({ name: 'made', info: { created: true } })
      },
      command: () =>
        world.cli([
          'workspace',
          'create',
          ENVIRONMENT,
          '--driver',
          driver,
          '--name',
          'made',
          '--seed-path',
          seed,
          ...size,
        ]),
      after: async () => {
        expect(await world.pyro.workspaces.list()).toHaveLength(2)
        const ws = await world.pyro.workspaces.get('made')
        expect(ws.info).toMatchObject({ phase: 'running', generation: 1, snapshots: ['baseline'], failure: null })
        expect((await ws.exec('cat file')).stdout).toBe('seeded\n')
        await world.pyro.workspaces.delete(['made'])
      },
    })
    await other.expectUntouched()
  })
})
