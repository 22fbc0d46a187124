import { statSync } from 'node:fs'
import { join } from 'node:path'
import type { Workspace } from '@pyro/sdk'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { runtimeFolder } from '../fault/account.ts'
import { sandboxOf, signalAll } from '../fault/outside.ts'
import { createOn } from '../support/driver-workspaces.ts'
import { until, World } from '../support/world.ts'

/** What is kept of a console, and as much again while it is cut. */
const CONSOLE_BYTES = 2 * 256 * 1024

/** reboot(2) on x86-64: the number of the call, and what makes it stop the processors and nothing else. */
const REBOOT = { number: 169, halt: [0xfee1dead, 0x28121969, 0xcdef0123] } as const

let world: World
beforeAll(async () => {
  world = await World.open()
})
afterAll(() => world[Symbol.asyncDispose]())

const expectLeft = async (ws: Workspace, why: RegExp): Promise<void> => {
  await until(async () => (await ws.status()).phase === 'stopped', 'the workspace to be stopped')
  expect((await ws.status()).failure).toMatchObject({
    code: 'sandbox.unreachable',
    message: expect.stringMatching(why) as string,
    hint: `pyro workspace start ${ws.name}`,
  })
  await ws.reset()
  expect((await ws.exec('echo here', { check: true })).stdout).toBe('here\n')
}

describe('a machine', () => {
  test('whose kernel gives up is stopped, says why, and is left by reset', async () => {
    await using ws = await createOn(world, 'qemu', { diskMib: 512 })
    const crash = ws.exec('echo c > /proc/sysrq-trigger')
    await expect(crash).rejects.toMatchObject({ code: 'command.interrupted' })
    await expectLeft(ws, /the kernel of the guest gave up: sysrq triggered crash/)
  })

  test('that restarts or switches itself off is stopped, and is left by reset', async () => {
    await using ws = await createOn(world, 'qemu', { diskMib: 512 })
    for (const key of ['b', 'o']) {
      const end = ws.exec(`echo ${key} > /proc/sysrq-trigger; sleep 60`)
      await expect(end).rejects.toMatchObject({ code: 'command.interrupted' })
      await expectLeft(ws, /the guest switched itself off or restarted/)
    }
  })

  test('whose VMM is ended from outside says by what', async () => {
    await using ws = await createOn(world, 'qemu', { diskMib: 512 })
    for (const [signal, why] of [
      ['SIGKILL', /its VMM was ended by SIGKILL/],
      ['SIGTERM', /its VMM was ended by signal 15/],
    ] as const) {
      signalAll((await sandboxOf(world, ws.id)).inside, signal)
      await expectLeft(ws, why)
    }
    expect(await ws.status()).toMatchObject({ phase: 'running', failure: null })
  })

  test('that halts says that it does not answer, and is left by reset', async () => {
    await using ws = await createOn(world, 'qemu', { diskMib: 512 })
    const halt = ws.exec(['perl', '-e', `syscall(${REBOOT.number}, ${REBOOT.halt.join(', ')}, 0)`])
    halt.catch(() => undefined)
    await until(async () => (await ws.status()).failure !== null, 'the status to tell', 60_000)
    expect(await ws.status()).toMatchObject({ phase: 'running', failure: { code: 'sandbox.unreachable' } })
    await ws.reset()
    await expect(halt).rejects.toMatchObject({ code: expect.stringMatching(/unreachable|interrupted/) as string })
    expect((await ws.exec('echo here', { check: true })).stdout).toBe('here\n')
    expect(await ws.status()).toMatchObject({ phase: 'running', failure: null })
  })

  test('that halts is stopped all the same, which says that it was cut off', async () => {
    await using ws = await createOn(world, 'qemu', { diskMib: 512 })
    await ws.exec('echo kept > kept; sync', { check: true })
    const halt = ws.exec(['perl', '-e', `syscall(${REBOOT.number}, ${REBOOT.halt.join(', ')}, 0)`])
    halt.catch(() => undefined)
    await until(async () => (await ws.status()).failure !== null, 'the status to tell', 60_000)
    const cutOff = {
      code: 'sandbox.unreachable',
      message: expect.stringContaining('was cut off: what it had not written to its disk is lost') as string,
    }
    expect(await ws.stop()).toMatchObject({ phase: 'stopped', failure: cutOff })
    await expect(halt).rejects.toMatchObject({ code: expect.stringMatching(/unreachable|interrupted/) as string })
    expect(await ws.status()).toMatchObject({ phase: 'stopped', failure: cutOff })
    expect((await ws.exec('cat kept', { check: true })).stdout).toBe('kept\n')
    expect(await ws.status()).toMatchObject({ phase: 'running', failure: null })
    await ws.exec('echo kept > kept-too', { check: true })
    expect(await ws.stop()).toMatchObject({ phase: 'stopped', failure: null })
    expect((await ws.exec('cat kept-too', { check: true })).stdout).toBe('kept\n')
  })

  test('that floods its console fills no disk of the host, and answers', async () => {
    await using ws = await createOn(world, 'qemu', { diskMib: 512 })
    await ws.exec('timeout 5 sh -c "while :; do head -c 4096 /dev/zero | tr \\\\0 x > /dev/console; done"; true')
    const { generation } = await ws.status()
    const log = join(runtimeFolder(world), 'sandboxes', `${ws.id}-g${generation}`, 'sandbox.log')
    expect(statSync(log).size).toBeLessThan(CONSOLE_BYTES)
    expect((await ws.exec('echo here', { check: true })).stdout).toBe('here\n')
  })
})
