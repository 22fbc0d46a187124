import { setTimeout as sleep } from 'node:timers/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect } from 'vitest'
import type { Command, Workspace } from '@pyro/sdk'
import { createOn } from '../support/driver-workspaces.ts'
import { onEveryDriver } from '../support/every-driver.ts'
import { World } from '../support/world.ts'
import { expectSurvival, resultOf } from './limit-hit.ts'

const MEMORY_MIB = 256
const BOMB = 'bomb() { bomb | bomb & }; bomb; sleep 60'
/** Beyond a command's own time-out: to find and end its whole tree. */
const TIMEOUT_SLACK_MS = 30_000

let world: World
beforeAll(async () => {
  world = await World.open()
})
afterAll(() => world[Symbol.asyncDispose]())

/** A bomb that has used up the processes by now. */
const explode = async (ws: Workspace): Promise<Command> => {
  const bomb = await ws.exec(BOMB, { detach: true })
  await expect.poll(async () => stderrOf(ws, bomb), { timeout: 60_000 }).toContain('Cannot fork')
  return bomb
}

const stderrOf = async (ws: Workspace, { commandId }: Command): Promise<string> =>
  (await ws.commands.list()).find((command) => command.commandId === commandId)?.stderr ?? ''

describe('processes', () => {
  onEveryDriver('limit.processes', async (driver) => {
    await using ws = await createOn(world, driver, { memoryMib: MEMORY_MIB })
    await ws.exec('echo kept > /etc/kept', { check: true })
    const bomb = await resultOf(ws, BOMB, { timeoutMs: driver === 'runsc' ? 30_000 : 10_000 })
    expect(bomb.limit).toBe('pids')
    await expectSurvival(ws, 'processes', driver === 'runsc')
    await ws.reset({ saveAs: 'after-the-bomb' })
    await ws.reset({ snapshot: 'after-the-bomb' })
    expect((await ws.exec('cat /etc/kept', { check: true })).stdout).toBe('kept\n')
  })

  onEveryDriver('limit.under-a-bomb', async (driver) => {
    await using ws = await createOn(world, driver, { memoryMib: MEMORY_MIB })
    await ws.exec('echo made > /workspace/made', { check: true })
    const bomb = await explode(ws)
    const begun = Date.now()
    const late = await ws.exec('sleep 60', { timeoutMs: 3_000 })
    expect(late.limit).toBe('pids')
    expect(Date.now() - begun).toBeLessThan(3_000 + TIMEOUT_SLACK_MS)
    expect(await ws.status()).toMatchObject({ phase: 'running', generation: 1 })
    expect((await ws.files.read('/workspace/made')).text).toBe('made\n')
    await ws.files.write('/workspace/written', 'during\n')
    const { result } = await ws.diff()
    expect(result.entries.map(({ path }) => path)).toEqual(['made', 'written'])
    // A second try of this case exports again.
    const output = join(world.folder, `made-during-a-bomb-${driver}-${Date.now()}`)
    await ws.export('/workspace/made', { output })
    await ws.snapshots.create('during')
    expect(await bomb.kill('KILL')).toMatchObject({ limit: 'pids' })
    expect((await ws.exec('echo calm', { check: true })).stdout).toBe('calm\n')
    await explode(ws)
    const reset = await ws.reset({ snapshot: 'during' })
    expect(reset.cleared.runningCommands).toHaveLength(1)
    expect((await ws.exec('cat made written', { check: true })).stdout).toBe('made\nduring\n')
  })

  onEveryDriver('limit.neighbours', async (driver) => {
    await using neighbour = await createOn(world, driver, { memoryMib: MEMORY_MIB })
    await using ws = await createOn(world, driver, { memoryMib: MEMORY_MIB })
    const bomb = ws.exec(`${BOMB} & tail /dev/zero`, { timeoutMs: 15_000 }).then(
      () => true,
      () => true,
    )
    await sleep(1_000)
    for (let round = 0; round < 5; round++) {
      const work = await neighbour.exec('seq 100 | xargs -n 10 echo | wc -l', { timeoutMs: 20_000 })
      expect(work).toMatchObject({ exitCode: 0, stdout: '10\n', limit: null })
    }
    expect(await neighbour.status()).toMatchObject({ phase: 'running', generation: 1, failure: null })
    await ws.reset()
    expect(await bomb).toBe(true)
  })
})
