import type { Workspace } from '@pyro/sdk'
import { afterAll, beforeAll, describe, expect } from 'vitest'
import { onEveryDriver } from '../support/every-driver.ts'
import { until, World } from '../support/world.ts'
import { expectInOrder } from './account.ts'
import { during } from './injection.ts'
import { markedWorkspace, markOf } from './killed-engine.ts'
import { sandboxOf, signalAll, timed } from './outside.ts'

/** A start waits a minute for a sandbox; not for one whose monitor is gone. */
const START_NOTICED_MS = 30_000

/** gVisor may end itself when another of its processes is killed first. */
const SEEN_BY_MONITOR = /was ended by SIGKILL|ended with exit code/

let world: World
beforeAll(async () => {
  world = await World.open()
})
afterAll(() => world[Symbol.asyncDispose]())

const expectDied = async (ws: Workspace): Promise<void> => {
  await until(async () => (await ws.status()).phase === 'stopped', 'the workspace to be stopped')
  const { failure, snapshots } = await ws.status()
  expect(failure).toMatchObject({ code: 'sandbox.unreachable', hint: `pyro workspace start ${ws.name}` })
  expect(failure?.message).toMatch(/died|gone/)
  expect(failure?.message).toContain('the disk is kept')
  expect(snapshots).toEqual(['baseline', 'kept'])
  await expectInOrder(world)
}

describe('a sandbox that is killed from outside', () => {
  onEveryDriver('died.left', async (driver) => {
    const ws = await markedWorkspace(world, driver)
    const kills = {
      'its processes': async () => signalAll((await sandboxOf(world, ws.id)).inside, 'SIGKILL'),
      'its monitor with it': async () => {
        const { monitor, inside } = await sandboxOf(world, ws.id)
        signalAll([monitor, ...inside], 'SIGKILL')
      },
      'one process of it': async () => signalAll((await sandboxOf(world, ws.id)).inside.slice(0, 1), 'SIGKILL'),
    }
    const ways = [
      () => ws.start(),
      () => ws.snapshots.create('after').then(() => ws.snapshots.delete('after')),
      () => ws.reset({ snapshot: 'kept' }),
    ]
    for (const [index, [what, kill]] of Object.entries(kills).entries()) {
      await ws.exec('echo now > /workspace/mark; sync', { check: true })
      const waiting = ws.exec(['sleep', '600'])
      waiting.catch(() => undefined)
      await until(async () => (await ws.commands.list()).at(-1)?.state === 'running', 'the command')
      await during(`killing ${what}`, async () => {
        await kill()
        await expect(waiting).rejects.toMatchObject({ code: 'command.interrupted' })
        await expectDied(ws)
        const known = what === 'its monitor with it' ? /died/ : SEEN_BY_MONITOR
        expect((await ws.status()).failure?.message).toMatch(known)
        await ways[index]?.()
      })
      // Whoever needs the sandbox starts it.
      expect(await markOf(ws)).toBe(index === 2 ? 'kept' : 'now')
      expect(await ws.status()).toMatchObject({ phase: 'running', failure: null })
    }
    signalAll((await sandboxOf(world, ws.id)).inside, 'SIGKILL')
    await expectDied(ws)
    await ws.delete()
    await expectInOrder(world)
  })

  onEveryDriver('died.without-monitor', async (driver) => {
    await using ws = await markedWorkspace(world, driver)
    const { monitor, inside } = await sandboxOf(world, ws.id)
    signalAll([monitor], 'SIGKILL')
    expect(await markOf(ws)).toBe('now')
    await world.restartEngine()
    expect(await markOf(ws)).toBe('now')
    expect(await ws.status()).toMatchObject({ phase: 'running', generation: 1, failure: null })
    signalAll(inside, 'SIGKILL')
    await expectDied(ws)
    expect(await markOf(ws)).toBe('now')
  })

  onEveryDriver('died.before-it-ran', async (driver) => {
    await using ws = await markedWorkspace(world, driver)
    const reset = ws.reset({ snapshot: 'kept' })
    const outcome = reset.then(
      () => 'kept',
      (error: unknown) => {
        expect(error).toMatchObject({ code: 'workspace.start-failed' })
        return 'now'
      },
    )
    const monitorOfNext = async (): Promise<number | undefined> =>
      (await world.sight()).processes.find(({ what }) => what.includes(' monitor ') && what.includes(`${ws.id}-g2`))
        ?.pid
    let monitor: number | undefined
    await until(async () => (monitor = await monitorOfNext()) !== undefined, 'the monitor of the next sandbox')
    signalAll([monitor ?? 0], 'SIGKILL')
    expect(await timed(() => outcome)).toBeLessThan(START_NOTICED_MS)
    // Where the start was quicker than the signal, the new sandbox runs without its monitor.
    expect(await markOf(ws)).toBe(await outcome)
    if ((await outcome) === 'now') await expectInOrder(world)
  })

  onEveryDriver('died.without-engine', async (driver) => {
    await using ws = await markedWorkspace(world, driver)
    const command = await ws.exec('echo printed; sleep 600', { detach: true })
    const logged = (): Promise<boolean> => ws.commands.list().then((all) => all.at(-1)?.stdoutBytes === 8)
    await until(logged, 'the output')
    const { monitor, inside } = await sandboxOf(world, ws.id)
    await world.killEngine()
    signalAll([monitor, ...inside], 'SIGKILL')
    await expectDied(ws)
    await expect(command.wait()).rejects.toMatchObject({
      code: 'command.interrupted',
      data: { command: { stdout: 'printed\n', state: 'interrupted' } },
    })
    expect(await markOf(ws)).toBe('now')
  })
})
