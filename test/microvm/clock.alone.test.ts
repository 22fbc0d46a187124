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
/** It asks more often whether machines stand still. Later than this it would bring any clock right that it told the time at first. */
const NOTICED_WITHIN_MS = 4_500
/** A link without an answer lives no longer. */
const LINK_GONE_MS = 18_000
/** The engine tells a machine the time more often. */
const TOLD_WITHIN_MS = 12_500

let world: World
beforeAll(async () => {
  world = await World.open()
})
afterAll(() => world[Symbol.asyncDispose]())

const TELL = 'date +%s%N'
/** How far the time that a program tells lies outside of the time in which it was asked; 0: it may be exactly right. */
const errorOf = async (ask: () => Promise<{ readonly stdout: string }>): Promise<number> => {
  const before = Date.now()
  const saidMs = Number((await ask()).stdout) / 1e6
  return Math.max(0, before - saidMs, saidMs - Date.now())
}
const errorMs = (ws: Workspace): Promise<number> => errorOf(() => ws.exec(TELL, { check: true }))
/** The first error that is none, else the last one. */
const errorSoonMs = async (ws: Workspace, withinMs: number): Promise<number> => {
  const until = Date.now() + withinMs
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

  test('goes on by the counter of its processors, which loses nothing on a busy host', async () => {
    // Of one alone Linux trusts the counter in any case.
    await using ws = await createOn(world, 'qemu', { vcpus: 2 })
    const source = '/sys/devices/system/clocksource/clocksource0/current_clocksource'
    expect((await ws.exec(`nproc; cat ${source}`, { check: true })).stdout).toMatch(
      /^2\n(?:tsc|tsc-early|kvm-clock)\n$/,
    )
    await ws.exec('for job in 1 2 3 4; do timeout 4 sh -c "while :; do :; done" & done; wait')
    expect(await errorMs(ws)).toBeLessThan(TOLERANCE_MS)
  })

  test('goes on without help while its VMM is frozen', async () => {
    await using ws = await createOn(world, 'qemu')
    // It began before: the clock is made right before a program is started.
    const asked = await ws.exec(`until [ -e ask ]; do sleep 0.1; done; ${TELL}`, { detach: true })
    const { inside } = await sandboxOf(world, ws.id)
    signalAll(inside, 'SIGSTOP')
    await sleep(STILL_MS)
    signalAll(inside, 'SIGCONT')
    const error = await errorOf(async () => {
      await ws.files.write('ask', '')
      return asked.wait()
    })
    expect(error).toBeLessThan(TOLERANCE_MS)
  })

  test('is not set back by what the engine told its VMM while that was frozen', async () => {
    await using ws = await createOn(world, 'qemu')
    const tellOn = 'for i in 1 2 3 4 5 6 7 8 9 10; do date +%s%N; sleep 0.2; done'
    const { inside } = await sandboxOf(world, ws.id)
    const engine = await world.enginePid()
    if (engine === null) throw new Error('no engine runs')
    // Some seconds before it is told again.
    await sleep(TOLD_WITHIN_MS / 2)
    signalAll(inside, 'SIGSTOP')
    const asked = [ws.exec(tellOn, { check: true })]
    await sleep(TOLD_WITHIN_MS - 1_000)
    asked.push(ws.exec(tellOn, { check: true }))
    await sleep(1_000)
    // Who is slow to tell the time again is of no help.
    signalAll([engine], 'SIGSTOP')
    const wentOnMs = Date.now()
    signalAll(inside, 'SIGCONT')
    await sleep(2_000)
    signalAll([engine], 'SIGCONT')
    for (const { stdout } of await Promise.all(asked)) {
      const saidMs = stdout
        .trim()
        .split('\n')
        .map((line) => Number(line) / 1e6)
      // No program goes on before the machine does.
      expect(Math.min(...saidMs)).toBeGreaterThan(wentOnMs - TOLERANCE_MS)
      expect(Math.max(...saidMs)).toBeLessThan(Date.now() + TOLERANCE_MS)
    }
  })

  test('is brought right when its machine is seen to have stood still', async () => {
    await using ws = await createOn(world, 'qemu')
    await tellQemu(ws, 'stop')
    await sleep(STILL_MS)
    await tellQemu(ws, 'cont')
    expect(await errorSoonMs(ws, NOTICED_WITHIN_MS)).toBeLessThan(TOLERANCE_MS)
  })

  test('is right for the first program over a new link: the machine may have stood still unseen', async () => {
    await using ws = await createOn(world, 'qemu')
    await tellQemu(ws, 'stop')
    // A VMM that is frozen, too, tells nobody that its machine stands still.
    const { inside } = await sandboxOf(world, ws.id)
    signalAll(inside, 'SIGSTOP')
    await sleep(LINK_GONE_MS)
    signalAll(inside, 'SIGCONT')
    await tellQemu(ws, 'cont')
    expect(await errorMs(ws)).toBeLessThan(TOLERANCE_MS)
  })

  test('that somebody inside has set is brought right again', async () => {
    await using ws = await createOn(world, 'qemu')
    for (const time of ['2001-01-01', '2035-01-01']) {
      await ws.exec(`date -s ${time}`, { check: true })
      expect(await errorSoonMs(ws, KEPT_WITHIN_MS)).toBeLessThan(TOLERANCE_MS)
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
