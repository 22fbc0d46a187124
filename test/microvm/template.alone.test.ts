import assert from 'node:assert/strict'
import { readdir, readFile, readlink } from 'node:fs/promises'
import { agentPath, driverPlace, emptyVolume, sandboxSpec } from '@pyro/driver-testkit'
import type { Sandbox } from '@pyro/engine'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'

const DEADLINE_MS = 60_000
/** Where every driver shows the agent program: all that a disk without any program can run. */
const AGENT = '/run/pyro/agent'
const RANDOM = '/proc/sys/kernel/random'
/** What every program of a machine may count on. */
const CLOCK_TOLERANCE_MS = 100
const HOUR_MS = 3_600_000
const plain = { cwd: '/', user: null, env: [], timeoutMs: null, stdin: false, holdMs: 0 }

describe('machines from one template', () => {
  let place: Awaited<ReturnType<typeof driverPlace>>
  const started: Sandbox[] = []
  beforeAll(async () => {
    place = await driverPlace({ agentPath: agentPath(), driver: 'qemu' })
    const { ok, detail } = await place.openDriver().probe()
    assert.ok(ok, detail)
  })
  afterAll(async () => {
    for (const sandbox of started) await sandbox.stop()
    assert.deepEqual(await place.openDriver().audit(), [])
    await place[Symbol.asyncDispose]()
  })

  const begin = async (name: string): Promise<Sandbox> => {
    const driver = place.openDriver()
    const volume = await emptyVolume(place, driver, name)
    const sandbox = await driver.start(sandboxSpec(driver, name, volume), {
      signal: new AbortController().signal,
      deadlineMs: DEADLINE_MS,
    })
    started.push(sandbox)
    return sandbox
  }
  const read = async (sandbox: Sandbox, path: string): Promise<string> => {
    const { dataBase64 } = await sandbox.agent.readFile({
      root: '/',
      path,
      startLine: null,
      maxLines: null,
      offset: 0,
      maxBytes: 64 * 1024,
    })
    return Buffer.from(dataBase64, 'base64').toString('utf8').trim()
  }

  test('share no random number, boot id or name', async () => {
    const [one, other] = [await begin('ws-one'), await begin('ws-other')]
    for (const path of [`${RANDOM}/uuid`, `${RANDOM}/boot_id`, '/proc/sys/kernel/hostname'])
      expect(await read(one, path)).not.toBe(await read(other, path))
    expect(await read(one, `${RANDOM}/boot_id`)).toBe(await read(one, `${RANDOM}/boot_id`))
    expect(one.agent.bootId).not.toBe(other.agent.bootId)
  })

  /** How far the guest's time lies outside of the time in which it was asked for it. */
  const clockErrorMs = async (sandbox: Sandbox): Promise<number> => {
    const before = Date.now()
    const timers = await read(sandbox, '/proc/timer_list')
    const after = Date.now()
    const sinceBootNs = Number(/^now at (\d+) nsecs$/m.exec(timers)?.[1])
    const bootedAtNs = Number(/^ clock 1:\n(?: {2}.*\n)*? {2}\.offset: +(\d+) nsecs$/m.exec(timers)?.[1])
    const saidMs = (sinceBootNs + bootedAtNs) / 1e6
    return Math.max(0, before - saidMs, saidMs - after)
  }

  test('have the time of the host before anything runs, however old the template is', async () => {
    const sandbox = await begin('ws-clock')
    expect(await clockErrorMs(sandbox)).toBeLessThan(CLOCK_TOLERANCE_MS)
  })

  test('have the time of the host before the next program runs when the host slept', async () => {
    const sandbox = await begin('ws-slept')
    const { now } = Date
    // All that a process sees of it: the time of day jumped, and nothing else went on.
    const slept = vi.spyOn(Date, 'now').mockImplementation(() => now() + HOUR_MS)
    try {
      expect(await clockErrorMs(sandbox)).toBeGreaterThan(HOUR_MS - DEADLINE_MS)
      const command = await sandbox.agent.start('cmd-slept', { ...plain, argv: [AGENT] })
      for await (const _chunk of command) continue
      expect(await command.exit).toMatchObject({ startError: null })
      expect(await clockErrorMs(sandbox)).toBeLessThan(CLOCK_TOLERANCE_MS)
    } finally {
      slept.mockRestore()
    }
  })

  test('cannot write to the template', async () => {
    const sandbox = await begin('ws-write')
    const pid = String(sandbox.record.details['pid'])
    const mounts = (await readFile(`/proc/${pid}/mountinfo`, 'utf8')).split('\n')
    const mounted = mounts.find((line) => line.includes(' /pyro/memory '))
    expect(mounted?.split(' ')[5]).toMatch(/^ro,/)
    const maps = await readFile(`/proc/${pid}/maps`, 'utf8')
    const memory = maps.split('\n').filter((line) => line.includes('/pyro/memory'))
    expect(memory.length).toBeGreaterThan(0)
    // Private, whatever may be written: `rw-p`.
    for (const line of memory) expect(line.split(' ')[1]).toMatch(/p$/)
    for (const fd of await readdir(`/proc/${pid}/fd`)) {
      const target = await readlink(`/proc/${pid}/fd/${fd}`).catch(() => '')
      if (!target.includes('/pyro/memory')) continue
      const flags = /^flags:\s+([0-7]+)$/m.exec(await readFile(`/proc/${pid}/fdinfo/${fd}`, 'utf8'))?.[1] ?? ''
      expect(Number.parseInt(flags, 8) & 3).toBe(0)
    }
  })
})
