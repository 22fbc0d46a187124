import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { Pyro } from '@pyro/sdk'
import { afterAll, beforeAll, describe, expect } from 'vitest'
import { onEveryDriver } from '../support/every-driver.ts'
import { until, World } from '../support/world.ts'
import { expectInOrder, runtimeFolder } from './account.ts'
import { armFault } from './injection.ts'
import { markedWorkspace, markOf } from './killed-engine.ts'
import { LOOK_MS, powerOff, timed } from './outside.ts'

let world: World
beforeAll(async () => {
  world = await World.open()
})
afterAll(() => world[Symbol.asyncDispose]())

/** What a reboot does to a host: nothing runs, nothing is mounted, /run and the control groups are empty, the boot id is another one. */
const reboot = async (): Promise<void> => {
  await powerOff(world)
  rmSync(runtimeFolder(world), { recursive: true })
  const db = new DatabaseSync(join(world.home, 'state.db'))
  db.prepare("UPDATE meta SET value = 'another boot' WHERE key = 'hostBootId'").run()
  db.close()
}

describe('a host that is restarted', () => {
  onEveryDriver('rebooted.left', async (driver) => {
    const running = await markedWorkspace(world, driver)
    const command = await running.exec('echo before; sleep 600', { detach: true })
    const stopped = await markedWorkspace(world, driver)
    await stopped.stop()
    const deleting = await markedWorkspace(world, driver)
    const reset = await markedWorkspace(world, driver)
    await reset.reset({ snapshot: 'kept' })
    await armFault(world, 'workspace.delete/end-sandboxes', 'hang')
    // A client that waits would start an engine in the middle of the reboot; this one does not.
    await using waiting = Pyro.open({ home: world.home, start: false })
    const cut = waiting.workspaces.delete([deleting.id])
    cut.catch(() => undefined)
    await until(async () => (await deleting.status()).phase === 'deleting', 'the delete')
    await reboot()

    await world.pyro.engine.start()
    expect(await timed(() => world.pyro.workspaces.list())).toBeLessThan(LOOK_MS)
    expect(await running.status()).toMatchObject({
      phase: 'stopped',
      failure: { code: 'sandbox.unreachable', message: expect.stringContaining('restarted') as string },
      snapshots: ['baseline', 'kept'],
    })
    expect(await stopped.status()).toMatchObject({ phase: 'stopped', failure: null })
    expect(await reset.status()).toMatchObject({ phase: 'stopped', lastResetSnapshot: 'kept' })
    await until(async () => (await world.pyro.workspaces.list()).length === 3, 'the delete to be finished')
    await expect(command.wait()).rejects.toMatchObject({
      code: 'command.interrupted',
      data: { command: { stdout: 'before\n' } },
    })
    await expectInOrder(world)

    await running.start()
    expect(await markOf(running)).toBe('now')
    expect(await running.status()).toMatchObject({ phase: 'running', failure: null })
    await stopped.reset({ snapshot: 'kept' })
    expect(await markOf(stopped)).toBe('kept')
    await reset.delete()
    await running.delete()
    await stopped.delete()
    await expectInOrder(world)
  })
})
