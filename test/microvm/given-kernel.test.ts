import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { appendFileSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { packDeb } from '../support/deb.ts'
import { createOn } from '../support/driver-workspaces.ts'
import { rejectionOf } from '../support/rejection.ts'
import { ENVIRONMENT } from '../support/world.ts'
import { openOwnCache } from './own-cache.ts'

const own = await openOwnCache()
const { cache, world } = own
afterAll(() => own[Symbol.asyncDispose]())

const names = (folder: string): string[] => readdirSync(join(cache, folder))

/** Of a driver that qemu's machines do not use. */
const BUILT_IN = ['vsock', 'vmw_vsock_virtio_transport_common', 'vmw_vsock_virtio_transport']

/** The kernel of the catalog as another: its image differs, and as in later ones modules are compressed or built in. */
const buildKernelPackage = (folder: string): { file: string; sha256: string } => {
  const root = join(folder, 'kernel')
  mkdirSync(root)
  execFileSync('tar', ['-xf', kernelArchive(), '-C', root, './boot', './usr/lib/modules'])
  const image = join(root, 'boot', readdirSync(join(root, 'boot')).find((name) => name.startsWith('vmlinuz-')) ?? '')
  appendFileSync(image, 'another')
  const modules = join(root, 'usr/lib/modules', readdirSync(join(root, 'usr/lib/modules'))[0] ?? '')
  const builtIn = BUILT_IN.map((name) => `kernel/net/vmw_vsock/${name}.ko`)
  for (const path of builtIn) rmSync(join(modules, path))
  writeFileSync(join(modules, 'modules.builtin'), builtIn.map((path) => `${path}\n`).join(''))
  execFileSync('find', [root, '-name', '*.ko', '-exec', 'xz', '{}', '+'])
  return {
    file: packDeb(root, 'linux-image-other'),
    sha256: createHash('sha256').update(readFileSync(image)).digest('hex'),
  }
}

/** Of the newest choice of modules: an older one may be there, too. */
const kernelArchive = (): string => {
  const archives = names('.').filter((name) => /^linux-.*\.tar\.zst$/.test(name))
  const newest = archives
    .map((name) => join(cache, name))
    .find((archive) => filesOf(archive).includes('vmw_vsock_virtio_transport.ko'))
  if (newest === undefined) throw new Error(`no archive of a kernel in ${archives.join(' ')}`)
  return newest
}

const filesOf = (archive: string): string => execFileSync('tar', ['-tf', archive], { encoding: 'utf8' })

describe('a kernel that is given', () => {
  test('is what machines start with, beside that of the catalog', async () => {
    const { file, sha256 } = buildKernelPackage(world.folder)
    await using old = await createOn(world, 'qemu')
    const before = names('kernels')
    await world.restartEngine({ PYRO_GUEST_KERNEL: file })
    await using ws = await createOn(world, 'qemu')
    expect((await ws.exec('echo here', { check: true })).stdout).toBe('here\n')
    const added = names('kernels').filter((name) => !before.includes(name))
    expect(added).toEqual([expect.not.stringMatching(/^given-/), expect.stringMatching(/^given-/)])
    const [id = ''] = added
    const manifest = JSON.parse(readFileSync(join(cache, 'kernels', id, 'manifest.json'), 'utf8')) as unknown
    expect(manifest).toMatchObject({ kernelSha256: sha256 })
    const release = (await ws.exec('uname -r', { check: true })).stdout.trim()
    expect(await world.pyro.environments.inspect(ENVIRONMENT)).toMatchObject({ microvmKernel: { release, sha256 } })
    expect(names('templates')).toContainEqual(expect.stringMatching(`^${id}-`))
    // Who began with another kernel goes on, and starts with this one.
    expect((await old.exec('echo there > kept; sync; cat kept', { check: true })).stdout).toBe('there\n')
    await old.stop()
    await old.start()
    expect((await old.exec('cat kept', { check: true })).stdout).toBe('there\n')
  })

  test.each([
    ['that is not there', '/nowhere.deb', /\/nowhere\.deb cannot be read: ENOENT/],
    ['that never ends', '/dev/zero', /\/dev\/zero is no file/],
    ['that is no package', process.execPath, /not unpacked/],
  ])('%s is refused, which names it', async (_what, file, reason) => {
    await world.restartEngine({ PYRO_GUEST_KERNEL: file })
    const error = await rejectionOf(createOn(world, 'qemu'))
    expect(error).toMatchObject({ code: 'driver.unavailable', message: expect.stringMatching(reason) as string })
    expect(error).toMatchObject({ hint: expect.stringContaining('PYRO_GUEST_KERNEL=') as string })
    expect(await world.pyro.workspaces.list()).toEqual([])
    expect(await world.pyro.environments.inspect(ENVIRONMENT)).toMatchObject({ microvmKernel: null })
  })

  test('of a package without one is refused', async () => {
    const file = packDeb(join(world.folder, 'empty'), 'linux-image-none')
    await world.restartEngine({ PYRO_GUEST_KERNEL: file })
    expect(await rejectionOf(createOn(world, 'qemu'))).toMatchObject({
      code: 'driver.unavailable',
      message: expect.stringContaining('it holds no image') as string,
    })
  })
})
