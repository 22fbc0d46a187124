import { execFileSync } from 'node:child_process'
import { chmodSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { Capability } from '@pyro/protocol'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createOn } from '../support/driver-workspaces.ts'
import { volatileFolder } from '../support/host-run.ts'
import { ENVIRONMENT_CACHE, World } from '../support/world.ts'

/** Misc device 232 (Linux, admin-guide/devices). */
const [MAJOR, MINOR] = ['10', '232']

/** A node of the same device that all may open, so that whether it works is all that is left to see. */
let folder: string
let world: World
beforeAll(async () => {
  folder = volatileFolder('kvm-')
  const device = join(folder, 'kvm')
  execFileSync('mknod', [device, 'c', MAJOR, MINOR])
  chmodSync(device, 0o666)
  world = await World.open({ env: { PYRO_KVM_DEVICE: device } })
})
afterAll(async () => {
  await world[Symbol.asyncDispose]()
  rmSync(folder, { recursive: true, force: true })
})

const kvm = async (): Promise<Capability | undefined> =>
  (await world.pyro.doctor()).capabilities.find(({ id }) => id === 'kvm-qemu')

describe('KVM', () => {
  test('counts where a guest boots on it, and machines are emulated where none does', async () => {
    const seen = await kvm()
    expect(seen?.detail).toMatch(/a guest booted in \d+ ms|no guest boots on it: .*; its guests are emulated/s)
    await using ws = await createOn(world, 'qemu')
    expect(await ws.status()).toMatchObject({ isolation: 'microvm', emulated: seen?.ok === false })
    expect((await ws.exec('echo here', { check: true })).stdout).toBe('here\n')
  })

  test('is tried once per boot of the host', async () => {
    const first = await kvm()
    const tried = (): number => statSync(join(ENVIRONMENT_CACHE, 'kvm.json')).mtimeMs
    const at = tried()
    await world.restartEngine()
    expect(await kvm()).toEqual(first)
    expect(tried()).toBe(at)
  })
})
