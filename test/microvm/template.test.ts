import assert from 'node:assert/strict'
import { readdir, readFile, readlink } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { agentPath, driverPlace, emptyVolume, sandboxSpec } from '@pyro/driver-testkit'
import type { Sandbox } from '@pyro/engine'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

const DEADLINE_MS = 60_000
const RANDOM = '/proc/sys/kernel/random'
/** A guest's clock may be behind by a round trip to an emulated machine, on a host under load. */
const CLOCK_TOLERANCE_MS = 1_000

describe('machines from one template', () => {
  let place: Awaited<ReturnType<typeof driverPlace>>
  const started: Sandbox[] = []
  beforeAll(async () => {
    place = await driverPlace({ agentPath: agentPath(), driver: 'qemu' })
    const { ok, detail } = await place.openDriver().probe()
    assert.ok(ok, detail)
  }, 120_000)
  afterAll(async () => {
    for (const sandbox of started) await sandbox.stop({ graceMs: 0 })
    assert.deepEqual(await place.openDriver().audit(), [])
    await place[Symbol.asyncDispose]()
  })

  const begin = async (name: string): Promise<Sandbox> => {
    const driver = place.openDriver()
    const volume = await emptyVolume(place, driver, `${name}.g1`)
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
      maxBytes: 4096,
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

  test('have the time of the host, however old the template is', async () => {
    await sleep(3 * CLOCK_TOLERANCE_MS)
    const sandbox = await begin('ws-clock')
    const before = Date.now()
    // Seconds since 1970 at the boot, by the guest's clock, and seconds since the boot.
    const bootedAt = Number(/^btime (\d+)$/m.exec(await read(sandbox, '/proc/stat'))?.[1])
    const uptime = Number((await read(sandbox, '/proc/uptime')).split(' ')[0])
    const guestMs = (bootedAt + uptime) * 1000
    expect(Math.abs(guestMs - before)).toBeLessThan(CLOCK_TOLERANCE_MS + 1000)
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
