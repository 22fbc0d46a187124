import { randomBytes } from 'node:crypto'
import { mkdirSync, statfsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { TestedDriver } from '@pyro/driver-testkit'
import { EXIT, type Progress } from '@pyro/protocol'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { onEveryDriver } from '../support/every-driver.ts'
import { tarOf, type TarMember } from '../support/tar.ts'
import { ENVIRONMENT, World } from '../support/world.ts'
import { inventory, removeEnvironmentVolume, volumesFolder } from './inventory.ts'
import { folder, smallLinux } from './root-filesystem.ts'

const MIB = 1024 * 1024
const SMALL = { memoryMib: 256, diskMib: 1024, vcpus: 1 } as const

let world: World
beforeAll(async () => {
  world = await World.open()
})
afterAll(() => world[Symbol.asyncDispose]())

const small = smallLinux()

const importRoot = async (name: string, members: readonly TarMember[], replace = false): Promise<string> => {
  const path = join(world.folder, 'root.tar')
  writeFileSync(path, tarOf(members))
  const { digest } = await world.pyro.environments.import(name, path, { replace })
  return digest ?? ''
}

describe('the catalog', () => {
  test('lists what can be pulled before anything is, and tells no name twice', async () => {
    const environments = await world.pyro.environments.list()
    expect(environments.slice(0, 3)).toEqual(
      ['debian:12-base', 'debian:12', 'debian:12-build'].map((name) => ({
        name,
        description: expect.stringMatching(/^Debian 12/),
        catalog: true,
        installed: false,
        digest: null,
        sizeBytes: null,
      })),
    )
    expect(await world.pyro.environments.inspect('debian:12')).toMatchObject({
      installed: false,
      createdAt: null,
      source: null,
      packages: [],
      usedBy: [],
    })
  })

  test('suggests the name that was meant', async () => {
    const { code, stderr } = await world.cli(['env', 'inspect', 'debain:12'])
    expect(code).toBe(EXIT.notFound)
    expect(stderr).toContain('did you mean debian:12?')
    for (const call of ['pull', 'remove'] as const)
      await expect(world.pyro.environments[call]('debain:12')).rejects.toMatchObject({
        code: 'environment.not-found',
        data: { nearest: 'debian:12' },
      })
  })
})

describe('a create', () => {
  test('with --no-pull refuses what is not installed, and leaves nothing', async () => {
    const before = inventory(world)
    const args = ['workspace', 'create', ENVIRONMENT, '--no-pull', '--name', 'unmade', '--driver', 'runc']
    const { code, stderr } = await world.cli(args)
    expect(code).toBe(EXIT.notFound)
    expect(stderr).toContain(`pyro env pull ${ENVIRONMENT}`)
    expect(inventory(world)).toEqual(before)
    expect(await world.pyro.workspaces.list()).toEqual([])
  })

  test('pulls what is missing first, and tells how far it is', async () => {
    const steps: Progress[] = []
    const onProgress = (progress: Progress): void => void steps.push(progress)
    await using ws = await world.pyro.workspaces.create({
      environment: ENVIRONMENT,
      driver: 'runc',
      ...SMALL,
      onProgress,
    })
    expect(steps.map(({ step }) => step)).toContain(`copying ${ENVIRONMENT}`)
    const installed = await world.pyro.environments.inspect(ENVIRONMENT)
    expect(installed).toMatchObject({ installed: true, catalog: true, source: 'catalog', usedBy: [ws.name] })
    expect(ws.info.environment).toEqual({ name: ENVIRONMENT, digest: installed.digest })
    expect(installed.packages.map(({ name }) => name)).toEqual(expect.arrayContaining(['apt', 'bash', 'dpkg']))
    expect(await world.pyro.environments.pull(ENVIRONMENT)).toMatchObject({ pulled: false, digest: installed.digest })
  })
})

describe('an environment', () => {
  test('in use is not removed, and its workspaces are named', async () => {
    await importRoot('used:1', small)
    const before = inventory(world)
    const ws = await world.pyro.workspaces.create({ environment: 'used:1', driver: 'fake', name: 'user', ...SMALL })
    const { code, stderr } = await world.cli(['env', 'remove', 'used:1'])
    expect(code).toBe(EXIT.conflict)
    expect(stderr).toContain('used:1 is used by user')
    expect(inventory(world)).toEqual(before)
    await ws.delete()
    const removed = await world.pyro.environments.remove('used:1')
    expect(removed).toMatchObject({ removed: 'used:1', freedBytes: expect.any(Number) })
    expect(removed.freedBytes).toBeGreaterThan(MIB)
    await expect(world.pyro.environments.inspect('used:1')).rejects.toMatchObject({ code: 'environment.not-found' })
  })

  test('under two names goes with the last of them', async () => {
    const digest = await importRoot('twin:1', [...small, { name: 'etc/twin' }])
    expect(await importRoot('twin:2', [...small, { name: 'etc/twin' }])).toBe(digest)
    expect(await world.pyro.environments.remove('twin:1')).toMatchObject({ freedBytes: 0 })
    await using ws = await world.pyro.workspaces.create({ environment: 'twin:2', driver: 'fake', ...SMALL })
    expect((await ws.exec(['/bin/ls', '/etc/twin'])).exitCode).toBe(0)
    await ws.delete()
    expect((await world.pyro.environments.remove('twin:2')).freedBytes).toBeGreaterThan(MIB)
    expect(inventory(world).filter((name) => name.includes(digest.slice(7, 23)))).toEqual([])
  })

  onEveryDriver('environment.superseded', async (driver: TestedDriver) => {
    const old = await importRoot('moving:1', [...small, { name: 'etc/version', content: `old for ${driver}` }], true)
    const ws = await world.pyro.workspaces.create({ environment: 'moving:1', driver, ...SMALL })
    await ws.exec('echo mine > /etc/mine', { check: true })
    await ws.snapshots.create('mine')
    const young = await importRoot('moving:1', [...small, { name: 'etc/version', content: 'young' }], true)
    await world.pyro.environments.prune({ all: true })
    expect((await ws.exec('cat /etc/version /etc/mine')).stdout).toBe(`old for ${driver}mine\n`)
    await ws.reset()
    expect((await ws.exec('cat /etc/version; ls /etc/mine')).stdout).toBe(`old for ${driver}`)
    await ws.reset({ snapshot: 'mine' })
    expect((await ws.exec('cat /etc/mine')).stdout).toBe('mine\n')
    expect(await ws.status()).toMatchObject({ environment: { name: 'moving:1', digest: old } })
    await importRoot('moving:1', [...small, { name: 'etc/version', content: 'young' }], true)
    await using other = await world.pyro.workspaces.create({ environment: 'moving:1', driver, ...SMALL })
    expect(other.info.environment.digest).toBe(young)
    await ws.delete()
    const { removed } = await world.pyro.environments.prune()
    expect(removed).toEqual([{ kind: 'superseded', name: old, bytes: expect.any(Number) }])
  })

  onEveryDriver('environment.bare', async (driver: TestedDriver) => {
    await importRoot('bare:1', [folder('srv'), { name: 'srv/only', content: 'x' }], true)
    await using ws = await world.pyro.workspaces.create({ environment: 'bare:1', driver, ...SMALL })
    const shell = await ws.exec('echo hello')
    expect({ code: shell.exitCode, stderr: shell.stderr }).toEqual({ code: 127, stderr: expect.stringMatching(/sh/) })
    expect((await ws.exec(['/srv/only'])).exitCode).toBe(126)
    await ws.files.write('/workspace/note', 'written')
    await ws.snapshots.create('noted')
    expect((await ws.diff({ root: '/' })).result.entries.map(({ path }) => path)).toContain('workspace/note')
    await ws.reset()
    expect((await ws.diff({ root: '/' })).result.entries).toEqual([])
  })
})

describe('prune', () => {
  test('gives back the space it says, and nothing that is in use', async () => {
    await importRoot('large:1', [...small, { name: 'srv/large', content: randomBytes(48 * MIB) }])
    await importRoot('kept:1', [...small, { name: 'etc/kept' }])
    const cache = join(world.home, 'cache', 'packages')
    mkdirSync(cache, { recursive: true })
    writeFileSync(join(cache, 'some.deb'), Buffer.alloc(MIB))
    await using ws = await world.pyro.workspaces.create({ environment: 'kept:1', driver: 'fake', ...SMALL })
    const free = (): number => statfsSync(volumesFolder(world)).bavail * statfsSync(volumesFolder(world)).bsize
    const before = free()
    const { code, stdout } = await world.cli(['env', 'prune', '--all', '--yes', '--json'])
    expect(code).toBe(0)
    const { removed, freedBytes } = JSON.parse(stdout) as Awaited<ReturnType<typeof world.pyro.environments.prune>>
    expect(removed).toEqual(
      expect.arrayContaining([
        // In the pool and as an archive that does not shrink.
        { kind: 'environment', name: 'large:1', bytes: expect.any(Number) },
        { kind: 'cache', name: 'packages', bytes: MIB },
      ]),
    )
    expect(removed.map(({ name }) => name)).not.toContain('kept:1')
    expect(freedBytes).toBe(removed.reduce((sum, { bytes }) => sum + bytes, 0))
    expect(removed.find(({ name }) => name === 'large:1')?.bytes).toBeGreaterThan(90 * MIB)
    expect(free() - before).toBeGreaterThan(45 * MIB)
    expect((await ws.exec(['/bin/ls', '/etc/kept'])).exitCode).toBe(0)
    expect(inventory(world)).toHaveLength(2)
  })

  test('without --all leaves what has a name', async () => {
    await importRoot('named:1', [...small, { name: 'etc/named' }])
    const before = inventory(world)
    expect(await world.pyro.environments.prune()).toEqual({ removed: [], freedBytes: 0 })
    expect(inventory(world)).toEqual(before)
  })
})

test('an environment whose volume was lost is unpacked again from its archive', async () => {
  const digest = await importRoot('again:1', [...small, { name: 'etc/again' }])
  const before = inventory(world)
  await removeEnvironmentVolume(world, digest)
  await using ws = await world.pyro.workspaces.create({ environment: 'again:1', driver: 'fake', ...SMALL })
  expect((await ws.exec(['/bin/ls', '/etc/again'])).exitCode).toBe(0)
  expect(inventory(world)).toEqual(before)
})
