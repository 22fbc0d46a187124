import assert from 'node:assert/strict'
import { agentPath, driverPlace, emptyVolume, sandboxSpec } from '@pyro/driver-testkit'
import type { Driver, Sandbox } from '@pyro/engine'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

const DEADLINE_MS = 60_000
/** The guest counts two seconds by its own clock; the rest is the way there and back, on a host under load. */
const THAWED_MS = { atLeast: 1_500, atMost: 30_000 }
const never = new AbortController().signal

describe('a frozen disk', () => {
  let place: Awaited<ReturnType<typeof driverPlace>>
  let driver: Driver
  let sandbox: Sandbox
  beforeAll(async () => {
    place = await driverPlace({ agentPath: agentPath(), driver: 'qemu' })
    driver = place.openDriver()
    const volume = await emptyVolume(place, driver, 'ws-frozen')
    const { ok, detail } = await driver.probe()
    assert.ok(ok, detail)
    sandbox = await driver.start(sandboxSpec(driver, 'ws-frozen', volume), { signal: never, deadlineMs: DEADLINE_MS })
  })
  afterAll(async () => {
    await sandbox.stop()
    assert.deepEqual(await driver.audit(), [])
    await place[Symbol.asyncDispose]()
  })

  const write = async (name: string): Promise<void> => {
    const file = { root: '/', path: `/workspace/${name}`, mode: null, oldTextBase64: null, replaceAll: false }
    const dataBase64 = Buffer.from(name).toString('base64')
    await sandbox.agent.writeFile({ ...file, dataBase64 }, { timeoutMs: DEADLINE_MS })
  }

  test('stands still until it is thawed, and says so', async () => {
    await sandbox.agent.freeze()
    let isWritten = false
    const writing = write('during').then(() => (isWritten = true))
    await new Promise((resolve) => setTimeout(resolve, 300))
    expect(isWritten).toBe(false)
    expect(await sandbox.agent.thaw()).toBe(true)
    await writing
  })

  test('goes on by itself when nobody thaws it, and the thaw that comes too late is told', async () => {
    const begun = performance.now()
    await sandbox.agent.freeze()
    await write('after')
    const tookMs = performance.now() - begun
    expect(tookMs).toBeGreaterThan(THAWED_MS.atLeast)
    expect(tookMs).toBeLessThan(THAWED_MS.atMost)
    expect(await sandbox.agent.thaw()).toBe(false)
  })

  test('goes on for an engine that comes after one that was killed in between', async () => {
    await sandbox.agent.freeze()
    const { record } = sandbox
    await sandbox.release()
    sandbox = await place.openDriver().adopt(record, { signal: never, deadlineMs: DEADLINE_MS })
    await write('adopted')
    expect(await sandbox.agent.thaw()).toBe(false)
  })

  test('is frozen by one at a time: a second freeze begins when the first has ended', async () => {
    await sandbox.agent.freeze()
    let isSecond = false
    const second = sandbox.agent.freeze().then(() => (isSecond = true))
    await new Promise((resolve) => setTimeout(resolve, 300))
    expect(isSecond).toBe(false)
    expect(await sandbox.agent.thaw()).toBe(true)
    await second
    expect(await sandbox.agent.thaw()).toBe(true)
    expect(await sandbox.agent.thaw()).toBe(false)
  })
})
