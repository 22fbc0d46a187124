import type { TestedDriver } from '@pyro/driver-testkit'
import type { Workspace } from '@pyro/sdk'
import { afterAll, afterEach, beforeAll, describe, expect } from 'vitest'
import { onEveryDriver } from '../support/every-driver.ts'
import { ENVIRONMENT, World } from '../support/world.ts'
import { expectInOrder } from './account.ts'
import { armFault, during, isDriversOwn, stepsOf, type Fault } from './injection.ts'
import { markedWorkspace, markOf, SMALL } from './killed-engine.ts'

/** By then a call that hangs is at its step. */
const CANCEL_AFTER_MS = 200

let world: World
beforeAll(async () => {
  world = await World.open()
})
/** An engine without a fault. */
afterEach(() => world.restartEngine())
afterAll(() => world[Symbol.asyncDispose]())

/**
 * Fails each step of an operation, cancels it there and fails its undo. Every step on runc; on the other drivers those where drivers
 * differ, with an undo that fails.
 */
const failAtEachStep = async (
  driver: TestedDriver,
  operation: string,
  parts: {
    readonly call: (signal: AbortSignal) => Promise<unknown>
    readonly after: (fault: Fault) => Promise<void>
  },
): Promise<void> => {
  for (const step of stepsOf(operation)) {
    const undo: Fault[] = isDriversOwn(step) && !step.endsWith('/commit') ? ['fail-undo'] : []
    for (const fault of driver === 'runc' ? (['fail', 'hang', ...undo] as const) : undo) {
      await during(`${step}:${fault}`, async () => {
        const { pid } = await armFault(world, step, fault)
        const hangs = fault === 'hang'
        const call = parts.call(hangs ? AbortSignal.timeout(CANCEL_AFTER_MS) : new AbortController().signal)
        const message = hangs
          ? expect.stringContaining('cancelled')
          : expect.stringContaining(`fault injected at ${step}`)
        await expect(call).rejects.toMatchObject({ code: hangs ? 'request.cancelled' : 'internal', message })
        expect(await world.enginePid()).toBe(pid)
        await parts.after(fault)
        await expectInOrder(world)
      })
    }
  }
}

/** Everything of a record that a failed operation leaves as it was. */
const constant = async (ws: Workspace): Promise<object> => {
  const { diskBytes: _diskBytes, lastActivityAt: _lastActivityAt, ...record } = await ws.status()
  return record
}

/** A running workspace that can tell whether it still has the sandbox and the command that it has now. */
const recognised = async (ws: Workspace): Promise<() => Promise<void>> => {
  const command = await ws.exec('touch /run/this-one; sleep 600', { detach: true })
  const before = await constant(ws)
  return async () => {
    expect(await constant(ws)).toEqual(before)
    expect((await ws.commands.list({ running: true })).map(({ commandId }) => commandId)).toEqual([command.commandId])
    expect(await ws.files.read('/run/this-one', { root: '/' })).toMatchObject({ sizeBytes: 0 })
  }
}

describe('an operation that fails at a step', () => {
  onEveryDriver('failed.create', async (driver) => {
    await failAtEachStep(driver, 'workspace.create', {
      call: (signal) =>
        world.pyro.workspaces.create({ environment: ENVIRONMENT, driver, name: 'made', ...SMALL, signal }),
      after: async () => expect(await world.pyro.workspaces.list()).toEqual([]),
    })
    await world.restartEngine()
    // The name is free.
    await using made = await world.pyro.workspaces.create({ environment: ENVIRONMENT, driver, name: 'made', ...SMALL })
    expect(made.name).toBe('made')
  })

  onEveryDriver('failed.start', async (driver) => {
    await using ws = await markedWorkspace(world, driver)
    await ws.stop()
    const before = await constant(ws)
    const failing = expect.objectContaining({ message: expect.stringContaining('fault injected') as string }) as object
    let failure: object | null = null
    await failAtEachStep(driver, 'workspace.start', {
      call: (signal) => ws.start({ signal }),
      after: async (fault) => {
        // It says why it is not running; one that was cancelled has nothing to say.
        if (fault !== 'hang') failure = failing
        expect(await constant(ws)).toEqual({ ...before, failure })
      },
    })
    await world.restartEngine()
    expect(await markOf(ws)).toBe('now')
  })

  onEveryDriver('failed.snapshot', async (driver) => {
    await using ws = await markedWorkspace(world, driver)
    const expectSame = await recognised(ws)
    await failAtEachStep(driver, 'workspace.snapshot.create', {
      // It would replace the one that is there.
      call: (signal) => ws.snapshots.create('kept', { replace: true, signal }),
      after: expectSame,
    })
    await ws.reset({ snapshot: 'kept' })
    expect(await markOf(ws)).toBe('kept')
  })

  onEveryDriver('failed.reset', async (driver) => {
    await using ws = await markedWorkspace(world, driver)
    const expectSame = await recognised(ws)
    await failAtEachStep(driver, 'workspace.reset', {
      call: (signal) => ws.reset({ snapshot: 'kept', saveAs: 'saved', signal }),
      after: expectSame,
    })
    await world.restartEngine()
    expect(await markOf(ws)).toBe('now')
    await ws.reset({ snapshot: 'kept', saveAs: 'saved' })
    expect(await markOf(ws)).toBe('kept')
  })

  onEveryDriver('failed.stop-delete', async (driver) => {
    const steps = [...stepsOf('workspace.stop'), ...stepsOf('workspace.delete')]
    for (const step of driver === 'runc' ? steps : steps.filter((name) => name.includes('sandbox'))) {
      await during(step, async () => {
        const ws = await markedWorkspace(world, driver)
        await armFault(world, step, 'fail')
        const isStop = step.startsWith('workspace.stop/')
        await expect(isStop ? ws.stop() : ws.delete()).rejects.toMatchObject({
          code: 'internal',
          message: expect.stringContaining('fault injected') as string,
        })
        const { phase, failure, snapshots } = await ws.status()
        expect({ phase, snapshots }).toEqual({ phase: 'failed', snapshots: ['baseline', 'kept'] })
        expect(failure?.message).toContain(`fault injected at ${step}`)
        // Nothing but its disk is lost, and not even that before its step was reached.
        const kept = isStop || !/remove-logs|commit/.test(step)
        await world.restartEngine()
        if (kept) {
          await ws.start()
          expect(await markOf(ws)).toBe('now')
          await ws.reset({ snapshot: 'kept' })
          expect(await markOf(ws)).toBe('kept')
        } else await expect(ws.start()).rejects.toMatchObject({ code: 'workspace.lost' })
        await ws.delete()
        await expectInOrder(world)
      })
    }
  })
})
