import { execFileSync } from 'node:child_process'
import { closeSync, openSync, readdirSync, readFileSync, renameSync, rmSync, truncateSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import type { PyroError, Workspace } from '@pyro/sdk'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { expectInOrder, runtimeFolder } from '../fault/account.ts'
import { createOn } from '../support/driver-workspaces.ts'
import { volumePath } from '../support/host-volume.ts'
import { rejectionOf } from '../support/rejection.ts'
import { World } from '../support/world.ts'

const DISK_MIB = 512
const MIB = 1024 * 1024
/** Of no other case: what is damaged here is no other's environment. */
const DAMAGED_MIB = 520
const UUID_OFFSET = 1024 + 0x68
const BLOCK_BYTES = 4096

let world: World
beforeAll(async () => {
  world = await World.open()
})
afterAll(() => world[Symbol.asyncDispose]())

const diskOf = (ws: Workspace): string => join(volumePath(world, ws, 'g1'), 'disk.raw')

/** Where the disk is that workspaces of this size begin with. */
const environmentVolume = (diskMib: number): string => {
  const volumes = join(runtimeFolder(world), 'volumes')
  return join(volumes, readdirSync(volumes).find((name) => name.endsWith(`.${diskMib}m`)) ?? '')
}

/** What is a hole stays one. */
const copy = (from: string, to: string): void => {
  execFileSync('cp', ['--sparse=always', from, to])
}

const overwrite = (path: string, at: number, bytes: number): void => {
  const file = openSync(path, 'r+')
  writeSync(file, Buffer.alloc(bytes, 0xa5), 0, bytes, at)
  closeSync(file)
}

const refusal = (why: RegExp) => ({
  code: 'workspace.start-failed',
  message: expect.stringMatching(why) as string,
  data: { reason: 'workspace.start-failed' },
})

/** What the record says until a start or a reset works. */
const kept = (ws: Workspace, why: RegExp) => ({
  code: 'workspace.start-failed',
  message: expect.stringMatching(why) as string,
  hint: expect.stringContaining(`pyro workspace reset ${ws.name}`) as string,
})

describe('a disk that does not fit its record', () => {
  test('is refused when it is that of another workspace, and says whose it is', async () => {
    await using one = await createOn(world, 'qemu', { diskMib: DISK_MIB })
    await using other = await createOn(world, 'qemu', { diskMib: DISK_MIB })
    for (const ws of [one, other]) {
      await ws.exec(`echo ${ws.id} > whose`, { check: true })
      await ws.stop()
    }
    const swap = (): void => {
      renameSync(diskOf(one), `${diskOf(one)}.kept`)
      // Each in a volume of its own: what is renamed would leave it.
      copy(diskOf(other), diskOf(one))
      copy(`${diskOf(one)}.kept`, diskOf(other))
      rmSync(`${diskOf(one)}.kept`)
    }
    swap()
    for (const [ws, owner] of [
      [one, other],
      [other, one],
    ] as const) {
      const why = new RegExp(`the disk belongs to "${owner.id}" instead of ${ws.id}; it is stopped as before`)
      expect(await rejectionOf(ws.start())).toMatchObject(refusal(why))
      expect(await ws.status()).toMatchObject({ phase: 'stopped', generation: 1, failure: kept(ws, why) })
    }
    await expectInOrder(world)
    swap()
    for (const ws of [one, other]) {
      expect(await ws.start()).toMatchObject({ phase: 'running', failure: null })
      expect((await ws.exec('cat whose', { check: true })).stdout).toBe(`${ws.id}\n`)
    }
  })

  test('is refused when it is a fresh one of the environment', async () => {
    await using ws = await createOn(world, 'qemu', { diskMib: DISK_MIB })
    await ws.stop()
    copy(join(environmentVolume(DISK_MIB), 'disk.raw'), diskOf(ws))
    expect(await rejectionOf(ws.start())).toMatchObject(refusal(/the disk belongs to "" instead of ws-/))
    await ws.reset()
    expect((await ws.exec('echo here', { check: true })).stdout).toBe('here\n')
  })

  test('is refused when it is damaged, in few words, and a reset brings a whole one', async () => {
    await using ws = await createOn(world, 'qemu', { diskMib: DISK_MIB })
    await using neighbour = await createOn(world, 'qemu', { diskMib: DISK_MIB })
    await ws.stop()
    const whole = join(world.folder, 'whole.raw')
    copy(diskOf(ws), whole)
    for (const [why, damage] of [
      [/the disk holds the filesystem (?:a5){16} instead of /, (path: string) => overwrite(path, UUID_OFFSET, 16)],
      [/the disk holds no ext4 filesystem/, (path: string) => overwrite(path, 0, BLOCK_BYTES)],
      [/the disk is too short for a filesystem/, (path: string) => truncateSync(path, 0)],
      [/mount \/dev\/vda: /, (path: string) => truncateSync(path, (DISK_MIB / 2) * MIB)],
      [/mount \/dev\/vda: /, (path: string) => overwrite(path, BLOCK_BYTES, 16 * MIB)],
    ] as const) {
      copy(whole, diskOf(ws))
      damage(diskOf(ws))
      const error = (await rejectionOf(ws.start())) as Error
      const hint = expect.stringContaining(`pyro workspace reset ${ws.name}`) as string
      expect(error).toMatchObject({ ...refusal(why), hint })
      expect(error.message.length).toBeLessThan(500)
      const { message, code } = error as PyroError
      expect(await ws.status()).toMatchObject({ phase: 'stopped', generation: 1, failure: { code, message, hint } })
    }
    expect((await neighbour.exec('echo here', { check: true })).stdout).toBe('here\n')
    await expectInOrder(world)
    await ws.reset()
    expect((await ws.exec('echo here', { check: true })).stdout).toBe('here\n')
    expect(await ws.status()).toMatchObject({ phase: 'running', failure: null })
  })

  test('is refused when it is that of an environment, and nothing is left of the workspace', async () => {
    await (await createOn(world, 'qemu', { diskMib: DAMAGED_MIB })).delete()
    const volume = environmentVolume(DAMAGED_MIB)
    const writable = (is: boolean): void => {
      execFileSync('btrfs', ['property', 'set', '-f', volume, 'ro', String(!is)])
    }
    writable(true)
    overwrite(join(volume, 'disk.raw'), 0, BLOCK_BYTES)
    writable(false)
    const error = await rejectionOf(createOn(world, 'qemu', { diskMib: DAMAGED_MIB }))
    expect(error).toMatchObject(refusal(/the disk image of the environment is damaged/))
    expect(await world.pyro.workspaces.list()).toEqual([])
    await expectInOrder(world)
    await using ws = await createOn(world, 'qemu', { diskMib: DISK_MIB })
    expect((await ws.exec('echo here', { check: true })).stdout).toBe('here\n')
  })
})

test('the token of a machine is nowhere on its console', async () => {
  await using ws = await createOn(world, 'qemu', { diskMib: DISK_MIB })
  await ws.exec('echo here > /dev/console', { check: true })
  const console = readFileSync(join(runtimeFolder(world), 'sandboxes', `${ws.id}-g1`, 'sandbox.log'), 'utf8')
  expect(console).toContain('here')
  expect(console).not.toContain('token')
})
