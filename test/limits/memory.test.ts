import type { CommandResult } from '@pyro/protocol'
import { afterAll, beforeAll, describe, expect } from 'vitest'
import { createOn } from '../support/driver-workspaces.ts'
import { onEveryDriver } from '../support/every-driver.ts'
import { hogIn, PROBE, probeFolder, useIn } from '../support/probe.ts'
import { World } from '../support/world.ts'
import { expectSurvival, resultOf } from './limit-hit.ts'

/** Beyond what 256 MiB can hold. */
const TOO_MUCH_MIB = 400
const MEMORY_MIB = 256

let world: World
beforeAll(async () => {
  world = await World.open()
})
afterAll(() => world[Symbol.asyncDispose]())

describe('memory', () => {
  onEveryDriver('limit.memory', async (driver) => {
    await using ws = await createOn(world, driver, { memoryMib: MEMORY_MIB, seed: { path: probeFolder() } })
    await ws.exec('echo kept > /etc/kept', { check: true })
    const hog = await resultOf(ws, [PROBE, 'hog', 'memory'], { timeoutMs: 60_000 })
    expect(hog.limit).toBe('memory')
    expect(hog.exitCode).not.toBe(0)
    await expectSurvival(ws, 'memory', driver === 'runsc')
    // A stopped workspace is started by the next command.
    expect((await ws.exec('cat /etc/kept', { check: true })).stdout).toBe('kept\n')
    expect(await ws.status()).toMatchObject({ phase: 'running', failure: null })
    // One that is killed before it has done anything is told apart as well.
    expect(await resultOf(ws, [PROBE, 'hog', 'memory', String(TOO_MUCH_MIB)])).toMatchObject({ limit: 'memory' })
    // A failure that no limit caused has none.
    expect(await ws.exec('exit 3')).toMatchObject({ exitCode: 3, limit: null })
    await ws.reset()
    expect(await useIn(ws, 'memory', 50)).toMatchObject({ count: 50, end: null })
  })

  onEveryDriver('limit.memory-of-files', async (driver) => {
    await using ws = await createOn(world, driver, { memoryMib: MEMORY_MIB, seed: { path: probeFolder() } })
    for (const path of ['/dev/shm/full', '/run/full', '/run/lock/full']) {
      const full = await ws.exec(`head -c ${TOO_MUCH_MIB}M /dev/zero > ${path}`)
      expect(full.stderr).toContain('No space left on device')
    }
    const segments = await hogIn(ws, 'segments')
    expect(segments.taken.end).toContain('no space left')
    await segments.command.kill('KILL')
    // All is taken that lasts, and yet there is room to look and to remove.
    const sizes = await ws.exec('du -m /dev/shm/full && rm /dev/shm/full /run/full /run/lock/full', { check: true })
    expect(Number.parseInt(sizes.stdout, 10)).toBe(MEMORY_MIB / 2)
    expect(await useIn(ws, 'memory', 100)).toMatchObject({ end: null })
    expect(await ws.status()).toMatchObject({ phase: 'running', generation: 1 })
  })

  onEveryDriver('limit.command-fails-alone', async (driver) => {
    await using ws = await createOn(world, driver, { memoryMib: MEMORY_MIB, seed: { path: probeFolder() } })
    const bystander = await ws.exec('while :; do echo here; sleep 0.2; done', { detach: true })
    expect(await ws.exec([PROBE, 'hog', 'memory'])).toMatchObject({ exitCode: 137, signal: 'KILL', limit: 'memory' })
    expect(await ws.status()).toMatchObject({ lastCommand: { exitCode: 137, limit: 'memory' } })
    expect(await ws.exec('while sleep 1000 & do :; done')).toMatchObject({ exitCode: 2, limit: 'pids' })
    const bystanding = async (): Promise<CommandResult | undefined> =>
      (await ws.commands.list()).find(({ commandId }) => commandId === bystander.commandId)
    const before = await bystanding()
    expect(before).toMatchObject({ state: 'running' })
    await expect
      .poll(async () => (await bystanding())?.stdoutBytes, { timeout: 60_000 })
      .toBeGreaterThan(before?.stdoutBytes ?? 0)
    expect(await ws.status()).toMatchObject({ phase: 'running', generation: 1 })
  })
})
