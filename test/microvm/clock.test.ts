import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Workspace } from '@pyro/sdk'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { runtimeFolder } from '../fault/account.ts'
import { sandboxOf, signalAll } from '../fault/outside.ts'
import { createOn } from '../support/driver-workspaces.ts'
import { World } from '../support/world.ts'

/** What every program of a machine may count on. */
const TOLERANCE_MS = 100
/** A host sleeps, or a machine stands still, this long: far more than the tolerance, and than any command here takes. */
const STILL_MS = 4_000
/** The engine looks after clocks now and then. */
const KEPT_WITHIN_MS = 30_000

let world: World
beforeAll(async () => {
  world = await World.open()
})
afterAll(() => world[Symbol.asyncDispose]())

/** How far a program's time lies outside of the time in which it ran; 0: it may be exactly right. */
const errorMs = async (ws: Workspace): Promise<number> => {
  const before = Date.now()
  const saidMs = Number((await ws.exec('date +%s%N', { check: true })).stdout) / 1e6
  return Math.max(0, before - saidMs, saidMs - Date.now())
}
/** The first error that is none, else the last one. */
const errorSoonMs = async (ws: Workspace): Promise<number> => {
  const until = Date.now() + KEPT_WITHIN_MS
  for (;;) {
    const error = await errorMs(ws)
    if (error < TOLERANCE_MS || Date.now() > until) return error
  }
}

/** Says this to the VMM, as an operator would. */
const tellQemu = async (ws: Workspace, command: 'stop' | 'cont'): Promise<void> => {
  const { generation } = await ws.status()
  const socket = connect(join(runtimeFolder(world), 'sandboxes', `${ws.id}-g${generation}`, 'qmp.sock'))
  socket.write(`{"execute":"qmp_capabilities"}\n{"execute":"${command}","id":1}\n`)
  let said = ''
  for await (const chunk of socket.setEncoding('utf8') as AsyncIterable<string>) {
    said += chunk
    if (said.includes('"id": 1')) break
  }
  expect(said).toContain('{"return": {}, "id": 1}')
}

describe('the clock of a machine', () => {
  test('is right for the first program, and for the first one after a reset, however old the template is', async () => {
    await (await createOn(world, 'qemu')).delete()
    await sleep(2 * TOLERANCE_MS)
    await using ws = await createOn(world, 'qemu')
    expect(await errorMs(ws)).toBeLessThan(TOLERANCE_MS)
    await sleep(2 * TOLERANCE_MS)
    await ws.reset()
    expect(await errorMs(ws)).toBeLessThan(TOLERANCE_MS)
    await ws.stop()
    await ws.start()
    expect(await errorMs(ws)).toBeLessThan(TOLERANCE_MS)
  })

  test('goes on by the counter of the processor, which loses nothing on a busy host', async () => {
    await using ws = await createOn(world, 'qemu', { vcpus: 1 })
    const source = '/sys/devices/system/clocksource/clocksource0/current_clocksource'
    expect((await ws.exec(`cat ${source}`, { check: true })).stdout).toMatch(/^(?:tsc|tsc-early|kvm-clock)\n$/)
    await ws.exec('for job in 1 2 3 4; do timeout 4 sh -c "while :; do :; done" & done; wait')
    expect(await errorMs(ws)).toBeLessThan(TOLERANCE_MS)
  })

  test('is right for a program that is started as soon as its VMM, which was frozen, goes on', async () => {
    await using ws = await createOn(world, 'qemu')
    const { inside } = await sandboxOf(world, ws.id)
    signalAll(inside, 'SIGSTOP')
    await sleep(STILL_MS)
    signalAll(inside, 'SIGCONT')
    expect(await errorMs(ws)).toBeLessThan(TOLERANCE_MS)
  })

  test('is brought right when its machine stood still, as on a host that slept', async () => {
    await using ws = await createOn(world, 'qemu')
    await tellQemu(ws, 'stop')
    await sleep(STILL_MS)
    await tellQemu(ws, 'cont')
    expect(await errorSoonMs(ws)).toBeLessThan(TOLERANCE_MS)
  })

  test('that somebody inside has set is brought right again', async () => {
    await using ws = await createOn(world, 'qemu')
    for (const time of ['2001-01-01', '2035-01-01']) {
      await ws.exec(`date -s ${time}`, { check: true })
      expect(await errorSoonMs(ws)).toBeLessThan(TOLERANCE_MS)
    }
  })

  test('is right for the first program that another engine starts', async () => {
    await using ws = await createOn(world, 'qemu')
    const wrong = await ws.exec('sleep 1; date -s 2001-01-01', { detach: true })
    await world.killEngine()
    await sleep(STILL_MS)
    expect(await errorMs(ws)).toBeLessThan(TOLERANCE_MS)
    expect(await wrong.wait()).toMatchObject({ exitCode: 0 })
  })
})
