import type { TestedDriver } from '@pyro/driver-testkit'
import type { Workspace } from '@pyro/sdk'
import { expect } from 'vitest'
import { ENVIRONMENT, until, type CliEnd, type World } from '../support/world.ts'
import { expectInOrder } from './account.ts'
import { armFault, during, isDriversOwn, stepsOf, type Fault } from './injection.ts'

/** Small enough for many at one time. */
export const SMALL = { memoryMib: 128, diskMib: 1024, vcpus: 1 } as const

export interface Killing {
  readonly world: World
  /** As the step runner calls it. */
  readonly operation: string
  /** Whether a failure takes the steps back; else they are finished by whoever comes next. */
  readonly undoes: boolean
  /** Run before the engine that will die is started. */
  readonly prepare: () => Promise<void>
  /** The call of an SDK that waits while the engine dies; its own assertions included. */
  readonly call: () => Promise<void>
  /** The same by the command line. */
  readonly command: () => Promise<CliEnd>
  /** What must hold afterwards. */
  readonly after: () => Promise<void>
}

/**
 * Kills the engine before and after each step of an operation, and while it takes one back; whoever waits for it, SDK or CLI, ends
 * as if nothing had been. Every step on runc; on the other drivers those where drivers differ, after they are done.
 */
export const killAtEachStep = async (driver: TestedDriver, killing: Killing): Promise<void> => {
  const { world, prepare, call, command, after } = killing
  const cases = stepsOf(killing.operation).flatMap((step) => {
    const undone: Fault[] = killing.undoes && isDriversOwn(step) && !step.endsWith('/commit') ? ['kill-undo'] : []
    if (driver === 'runc') return (['kill', 'kill-after', ...undone] as const).map((fault) => ({ step, fault }))
    return isDriversOwn(step) ? [{ step, fault: 'kill-after' as const }] : []
  })
  for (const [index, { step, fault }] of cases.entries()) {
    await during(`${step}:${fault}`, async () => {
      await prepare()
      const { pid } = await armFault(world, step, fault)
      if (index % 2 === 0) await call()
      else expect(await command()).toMatchObject({ code: 0 })
      expect(await world.enginePid()).not.toBe(pid)
      await after()
      await expectInOrder(world)
    })
  }
}

/** A workspace whose disk says `now`, with a snapshot `kept` whose disk says `kept`. */
export const markedWorkspace = async (world: World, driver: TestedDriver): Promise<Workspace> => {
  const ws = await world.pyro.workspaces.create({ environment: ENVIRONMENT, driver, ...SMALL })
  await ws.exec('echo kept > /workspace/mark', { check: true })
  await ws.snapshots.create('kept')
  await ws.exec('echo now > /workspace/mark; sync', { check: true })
  return ws
}

export const markOf = async (ws: Workspace): Promise<string> =>
  (await ws.exec('cat /workspace/mark', { check: true })).stdout.trim()

/** A workspace that nobody touches, with a command that counts: no death of an engine may be noticed there. */
export const bystander = async (
  world: World,
  driver: TestedDriver,
): Promise<{ expectUntouched(): Promise<void> } & AsyncDisposable> => {
  const ws = await world.pyro.workspaces.create({ environment: ENVIRONMENT, driver, ...SMALL })
  const command = await ws.exec('while sleep 0.1; do echo tick; done', { detach: true })
  const { generation } = ws.info
  return {
    async expectUntouched() {
      expect(await ws.status()).toMatchObject({ phase: 'running', generation, failure: null })
      const counting = async () => (await ws.commands.list())[0]
      const before = await counting()
      expect(before).toMatchObject({ commandId: command.commandId, state: 'running' })
      const counts = async (): Promise<boolean> =>
        ((await counting())?.stdoutBytes ?? 0) > (before?.stdoutBytes ?? Infinity)
      await until(counts, 'the command to count on')
      expect(await counting()).toMatchObject({ commandId: command.commandId, state: 'running' })
    },
    [Symbol.asyncDispose]: () => ws[Symbol.asyncDispose](),
  }
}
