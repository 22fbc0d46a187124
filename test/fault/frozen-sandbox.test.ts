import type { Workspace } from '@pyro/sdk'
import { afterAll, beforeAll, describe, expect } from 'vitest'
import { onEveryDriver } from '../support/every-driver.ts'
import { ENVIRONMENT, until, World } from '../support/world.ts'
import { expectInOrder } from './account.ts'
import { armFault, during } from './injection.ts'
import { markedWorkspace, markOf, SMALL } from './killed-engine.ts'
import { LOOK_MS, sandboxOf, signalAll, timed } from './outside.ts'

/** Leaving a frozen sandbox takes its grace and a start, its silence to be told two pings, and a busy host its time; waiting for it never ends. */
const PATIENCE_MS = 60_000

let world: World
beforeAll(async () => {
  world = await World.open()
})
afterAll(() => world[Symbol.asyncDispose]())

const freeze = async (ws: Workspace): Promise<() => void> => {
  const { monitor, inside } = await sandboxOf(world, ws.id)
  signalAll([monitor, ...inside], 'SIGSTOP')
  return () => signalAll([...inside, monitor], 'SIGCONT')
}

const expectLooksAnswered = async (ws: Workspace): Promise<void> => {
  const looks = {
    list: () => world.pyro.workspaces.list(),
    status: () => ws.status(),
    commands: () => ws.commands.list(),
    snapshots: () => ws.snapshots.list(),
  }
  for (const [name, look] of Object.entries(looks)) expect({ name, took: await timed(look) }).toSatisfy(isQuick)
}

const expectTold = async (ws: Workspace): Promise<void> => {
  await until(async () => (await ws.status()).failure !== null, 'the status to tell of the silence', PATIENCE_MS)
  const unreachable = { code: 'sandbox.unreachable', hint: expect.stringContaining(`workspace reset ${ws.name}`) }
  expect(await ws.status()).toMatchObject({ phase: 'running', generation: 1, failure: unreachable })
  const listed = (await world.pyro.workspaces.list()).find(({ workspaceId }) => workspaceId === ws.id)
  expect(listed).toMatchObject({ phase: 'running', failure: unreachable })
}

/** Stopped, and by force: the record says so until the next start, also to a later engine. */
const expectCutOff = async (ws: Workspace): Promise<void> => {
  const cutOff = {
    code: 'sandbox.unreachable',
    message: expect.stringMatching(/cut off: what it had not written .* is lost/) as string,
    hint: expect.stringContaining(`pyro workspace start ${ws.name}`) as string,
  }
  expect(await ws.status()).toMatchObject({ phase: 'stopped', failure: cutOff })
  // Stopped already: nothing is done, and what became of it is said once more.
  const { code, stdout, stderr } = await world.cli(['workspace', 'stop', ws.name])
  expect({ code, stdout }).toEqual({
    code: 0,
    stdout: expect.stringContaining('stopped (sandbox.unreachable)') as string,
  })
  expect(stderr).toMatch(/^warning: the sandbox .* was cut off/)
  await world.restartEngine()
  expect(await ws.status()).toMatchObject({ phase: 'stopped', failure: cutOff })
}

const isQuick = ({ took }: { readonly took: number }): boolean => took < LOOK_MS

describe('a frozen sandbox', () => {
  onEveryDriver('frozen.left', async (driver) => {
    await using other = await world.pyro.workspaces.create({ environment: ENVIRONMENT, driver, ...SMALL })
    const ws = await markedWorkspace(world, driver)
    const ways = {
      reset: () => ws.reset({ snapshot: 'kept' }),
      stop: () => ws.stop(),
      delete: () => ws.delete(),
    }
    for (const [way, leave] of Object.entries(ways)) {
      await ws.start()
      const started = Promise.withResolvers<void>()
      const waiting = ws.exec(['sleep', '600'], { onStarted: () => started.resolve() })
      waiting.catch(() => undefined)
      await Promise.race([started.promise, waiting])
      await freeze(ws)
      await expectLooksAnswered(ws)
      expect((await other.exec('echo still here')).stdout).toBe('still here\n')
      expect(await timed(leave)).toBeLessThan(PATIENCE_MS)
      await expect(waiting).rejects.toMatchObject({ code: 'command.interrupted', data: { interruptedBy: way } })
      await expectInOrder(world)
      if (way === 'stop') await expectCutOff(ws)
      if (way !== 'delete') expect(await markOf(ws)).toBe('kept')
      if (way === 'stop') expect(await ws.status()).toMatchObject({ phase: 'running', failure: null })
    }
  })

  onEveryDriver('frozen.cut-off', async (driver) => {
    await using ws = await markedWorkspace(world, driver)
    for (const { step, fault } of [
      { step: 'stop-sandbox', fault: 'kill' },
      { step: 'stop-sandbox', fault: 'kill-after' },
      { step: 'end-sandbox', fault: 'kill-after' },
    ] as const) {
      await during(`${step}:${fault}`, async () => {
        await ws.start()
        await armFault(world, `workspace.stop/${step}`, fault)
        await freeze(ws)
        expect(await timed(() => ws.stop())).toBeLessThan(PATIENCE_MS)
        await expectCutOff(ws)
        await expectInOrder(world)
      })
    }
    expect(await markOf(ws)).toBe('now')
    await ws.stop()
    expect(await ws.status()).toMatchObject({ phase: 'stopped', failure: null })
  })

  onEveryDriver('frozen.thaws', async (driver) => {
    await using ws = await markedWorkspace(world, driver)
    const command = await ws.exec('until [ -e /run/thawed ]; do sleep 0.1; done; echo thawed; exit 4', { detach: true })
    const thaw = await freeze(ws)
    await world.restartEngine()
    await expectLooksAnswered(ws)
    expect(await ws.status()).toMatchObject({ phase: 'running', failure: null })
    // Until it is thawed it cannot be used, and says why; it is not given up.
    const hurried = ws.exec('true', { signal: AbortSignal.timeout(500) })
    await expect(hurried).rejects.toMatchObject({ code: 'request.cancelled' })
    expect(await ws.status()).toMatchObject({ phase: 'running', generation: 1 })
    // The link is the same on every driver, and its patience long.
    if (driver === 'fake') {
      const unreachable = { code: 'sandbox.unreachable', hint: expect.stringContaining('workspace reset') }
      await Promise.all([
        expect(ws.exec('true')).rejects.toMatchObject(unreachable),
        expect(command.wait()).rejects.toMatchObject(unreachable),
      ])
    }
    thaw()
    await ws.exec(['touch', '/run/thawed'], { check: true })
    expect(await command.wait()).toMatchObject({ exitCode: 4, stdout: 'thawed\n' })
    expect(await markOf(ws)).toBe('now')
    await expectInOrder(world)
  })

  onEveryDriver('frozen.told', async (driver) => {
    await using ws = await markedWorkspace(world, driver)
    const thaw = await freeze(ws)
    await expectTold(ws)
    await world.restartEngine()
    await expectTold(ws)
    thaw()
    await until(async () => (await ws.status()).failure === null, 'the silence to end', PATIENCE_MS)
    expect(await markOf(ws)).toBe('now')
    expect(await ws.status()).toMatchObject({ phase: 'running', generation: 1, failure: null })
  })
})
