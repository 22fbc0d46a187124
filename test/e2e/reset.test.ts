import { afterAll, beforeAll, describe, expect } from 'vitest'
import { onEveryDriver } from '../support/every-driver.ts'
import { ENVIRONMENT, World } from '../support/world.ts'

let world: World
beforeAll(async () => {
  world = await World.open()
})
afterAll(() => world[Symbol.asyncDispose]())

describe('reset', () => {
  onEveryDriver('reset.baseline-new-machine', async (driver) => {
    await using ws = await world.pyro.workspaces.create({ environment: ENVIRONMENT, driver })
    const identity = 'hostname; cat /etc/machine-id'
    const before = await ws.exec(identity)
    await ws.exec('echo changed >> /etc/hosts; rm /usr/bin/env; touch /tmp/left', { check: true })
    await ws.exec(['sleep', '600'], { detach: true })
    const reset = await ws.reset()
    expect(reset.cleared).toMatchObject({ commands: 3, runningCommands: [{ command: 'sleep 600' }] })
    const after = await ws.exec(identity)
    expect(after.stdout).toBe(before.stdout)
    expect(after.sequence).toBe(1)
    const processes = await ws.exec('cat /proc/[0-9]*/cmdline')
    expect(processes.stdout).not.toContain('sleep')
    const diff = await ws.diff({ root: '/' })
    expect(diff.result.entries).toEqual([])
  })
})
