import { afterAll, beforeAll, describe, expect } from 'vitest'
import { createOn } from '../support/driver-workspaces.ts'
import { onEveryDriver } from '../support/every-driver.ts'
import { World } from '../support/world.ts'

const DISK_MIB = 64

let world: World
beforeAll(async () => {
  world = await World.open({ disk: 'copy' })
})
afterAll(() => world[Symbol.asyncDispose]())

describe('a disk without a limit', () => {
  onEveryDriver('limit.disk-none', async (driver) => {
    await using ws = await createOn(world, driver, { diskMib: DISK_MIB })
    expect((await ws.status()).limits).toEqual({ disk: 'none' })
    const more = await ws.exec(`head -c ${DISK_MIB + 16}M /dev/zero > more && rm more && echo written`)
    expect(more).toMatchObject({ stdout: 'written\n', limit: null })
    expect(await ws.exec('exit 1')).toMatchObject({ limit: null })
    const { stdout } = await world.cli(['workspace', 'status', ws.name])
    expect(stdout).toMatch(/^machine: .*disk without a limit$/m)
  })
})
