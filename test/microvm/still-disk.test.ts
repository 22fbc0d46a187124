import { execFile } from 'node:child_process'
import { copyFile, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import type { Workspace } from '@pyro/sdk'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { sandboxOf, signalAll } from '../fault/outside.ts'
import { createOn } from '../support/driver-workspaces.ts'
import { volumePath } from '../support/host-volume.ts'
import { enough } from '../support/soak.ts'
import { World } from '../support/world.ts'

const run = promisify(execFile)
const SNAPSHOTS = enough({ inTests: 10, inSoak: 200 })
const POWER_CUTS = enough({ inTests: 3, inSoak: 50 })
/** A disk that was checked and found in order. */
const CLEAN = 0
/** Writes, renames and removes small files for ever, and never asks for anything to be written out. */
const LOAD = `i=0; while :; do i=$((i+1)); mkdir -p d$((i%7)); echo $i > d$((i%7))/$i; mv d$((i%7))/$i d$((i%5)) 2>/dev/null; rm -f d*/$((i-50)); done`

let world: World
beforeAll(async () => {
  world = await World.open()
})
afterAll(() => world[Symbol.asyncDispose]())

/** What `e2fsck` finds, and with which exit code. `replay`: as a kernel would before it mounts the disk. */
const check = async (ws: Workspace, part: string, replay: boolean): Promise<{ code: number; said: string }> => {
  const folder = await mkdtemp(join(tmpdir(), 'pyro-check-'))
  const copy = join(folder, 'disk.raw')
  const e2fsck = async (...options: string[]): Promise<{ code: number; said: string }> => {
    try {
      return { code: CLEAN, said: (await run('e2fsck', [...options, copy])).stdout }
    } catch (error) {
      const { code, stdout } = error as { code: number; stdout: string }
      return { code, said: stdout }
    }
  }
  try {
    await copyFile(join(volumePath(world, ws, part), 'disk.raw'), copy)
    if (replay) await e2fsck('-p', '-E', 'journal_only')
    return await e2fsck('-f', '-n')
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

describe('the disk of a machine', () => {
  test('is whole in snapshots taken under load', async () => {
    await using ws = await createOn(world, 'qemu', { diskMib: 512 })
    const load = await ws.exec(LOAD, { detach: true })
    for (let at = 1; at <= SNAPSHOTS; at += 1) {
      await ws.snapshots.create(`s${at}`)
      const found = await check(ws, `s${at}`, false)
      expect(found).toEqual({ code: CLEAN, said: expect.not.stringMatching(/recover/i) as string })
    }
    await load.kill()
  })

  test('is a copy of one instant, or none, when a program inside ends the freeze', async () => {
    await using ws = await createOn(world, 'qemu', { diskMib: 512 })
    const thaw = `perl -e 'opendir my $d, "/"; for (;;) { ioctl($d, 0xc0045878, 0) }'`
    const thawing = await ws.exec(thaw, { detach: true })
    await sleep(500)
    const outcome = await ws.snapshots.create('thawed').then(
      async () => (await check(ws, 's1', true)).code,
      (error: unknown) => (error as { code: string }).code,
    )
    expect([CLEAN, 'sandbox.unreachable']).toContain(outcome)
    expect(await ws.snapshots.list()).toHaveLength(outcome === CLEAN ? 2 : 1)
    await thawing.kill()
    await ws.snapshots.create('after')
    expect((await check(ws, 's2', false)).code).toBe(CLEAN)
  })

  test('keeps what was synced, and its filesystem, when the machine is cut off', async () => {
    await using ws = await createOn(world, 'qemu', { diskMib: 512 })
    for (let cut = 1; cut <= POWER_CUTS; cut += 1) {
      await ws.exec(`echo ${cut} > kept; sync`, { check: true })
      const load = ws.exec(LOAD)
      load.catch(() => undefined)
      await sleep(200 + Math.random() * 1000)
      const { generation } = await ws.status()
      signalAll((await sandboxOf(world, ws.id)).inside, 'SIGKILL')
      await expect(load).rejects.toMatchObject({ code: 'command.interrupted' })
      expect(await check(ws, 'g1', true)).toMatchObject({ code: CLEAN })
      await ws.start()
      expect((await ws.status()).generation).toBe(generation + 1)
      expect((await ws.exec('cat kept', { check: true })).stdout).toBe(`${cut}\n`)
      await ws.exec('rm -rf d*', { check: true })
    }
  })
})
