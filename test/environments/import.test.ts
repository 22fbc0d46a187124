import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { onEveryDriver } from '../support/every-driver.ts'
import { tarOf, type TarMember } from '../support/tar.ts'
import { World } from '../support/world.ts'
import {
  dockerSave,
  HOST_ARCHITECTURE,
  layoutFolder,
  layoutTar,
  multiPlatformLayout,
  ociLayout,
  type Image,
} from './image-layout.ts'
import { inventory } from './inventory.ts'
import { folder, program, smallLinux } from './root-filesystem.ts'

const SMALL = { memoryMib: 256, diskMib: 1024, vcpus: 1 } as const
const OTHER_ARCHITECTURE = 's390x'

let world: World
beforeAll(async () => {
  world = await World.open()
})
afterAll(() => world[Symbol.asyncDispose]())

const hostFile = (name: string, content: Buffer): string => {
  const path = join(world.folder, name)
  writeFileSync(path, content)
  return path
}

/** Content of a file in an environment. */
const fileOf = async (environment: string, path: string): Promise<string | null> => {
  await using ws = await world.pyro.workspaces.create({ environment, driver: 'fake', ...SMALL })
  const { exitCode, stdout } = await ws.exec(['/bin/cat', path])
  return exitCode === 0 ? stdout : null
}

const small = smallLinux()
const withMark = (mark: string): TarMember[] => [...small, { name: 'etc/mark', content: mark }]

describe('a root filesystem', () => {
  test('is one environment however it is compressed and whichever way it comes', async () => {
    const plain = tarOf(small)
    const ways = {
      'root:plain': hostFile('root.tar', plain),
      'root:gzip': hostFile('root.tar.gz', gzipSync(plain)),
      'root:zstd': hostFile(
        'root.tar.zst',
        execFileSync('zstd', ['-c', '-q'], { input: plain, maxBuffer: 2 * plain.length }),
      ),
    }
    const digests = new Set<string | null>()
    for (const [name, path] of Object.entries(ways)) {
      const made = await world.pyro.environments.import(name, path)
      expect(made).toMatchObject({ name, installed: true, catalog: false, source: path, user: 'root', workingDir: '' })
      expect(made.platform).toBe(`linux/${HOST_ARCHITECTURE}`)
      digests.add(made.digest)
    }
    const piped = await world.cli(['env', 'import', 'root:piped', '-', '--json'], { input: plain })
    expect(piped).toMatchObject({ code: 0, stderr: '' })
    const record = JSON.parse(piped.stdout) as { source: string; digest: string }
    expect(record.source).toBe('-')
    expect([...digests, record.digest]).toEqual([record.digest, record.digest])
    expect(inventory(world)).toHaveLength(2)
  })

  test('lists its packages, of dpkg or apk, without those that were removed', async () => {
    const dpkg =
      'Package: bash\nStatus: install ok installed\nVersion: 5.2-1\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n'
    const apk = 'C:Q1\nP:musl\nV:1.2.4-r2\n\nP:busybox\nV:1.36-r0\n\n'
    const debian = [...small, { name: 'var/lib/dpkg/status', content: dpkg }]
    const alpine = [...small, { name: 'lib/apk/db/installed', content: apk }]
    await world.pyro.environments.import('packages:dpkg', hostFile('dpkg.tar', tarOf(debian)))
    await world.pyro.environments.import('packages:apk', hostFile('apk.tar', tarOf(alpine)))
    const { packages } = await world.pyro.environments.inspect('packages:dpkg')
    expect(packages).toEqual([{ name: 'bash', version: '5.2-1' }])
    expect((await world.pyro.environments.inspect('packages:apk')).packages).toEqual([
      { name: 'musl', version: '1.2.4-r2' },
      { name: 'busybox', version: '1.36-r0' },
    ])
  })

  test('has its device nodes left out, and says how many', async () => {
    const devices: TarMember[] = [
      { name: 'dev/mem', type: '3' },
      { name: 'dev/sda', type: '4' },
    ]
    const path = hostFile('devices.tar', tarOf([...small, ...devices]))
    const { code, stderr } = await world.cli(['env', 'import', 'devices:1', path])
    expect({ code, stderr }).toEqual({ code: 0, stderr: expect.stringMatching(/left out 2 device nodes\n$/) })
    await using ws = await world.pyro.workspaces.create({ environment: 'devices:1', driver: 'runc', ...SMALL })
    expect((await ws.exec(['/bin/ls', '/dev'])).stdout.split('\n')).not.toContain('mem')
  })
})

describe('an image', () => {
  const image: Image = {
    ref: 'app:1',
    layers: [small, [{ name: 'etc/mark', content: 'from the second layer' }]],
    config: { Env: ['A=1'] },
  }

  test('is read from a layout folder, from a tar of it and from what docker save writes', async () => {
    const parts = ociLayout([image])
    await world.pyro.environments.import('image:folder', layoutFolder(parts, join(world.folder, 'layout')))
    await world.pyro.environments.import('image:tar', hostFile('layout.tar', layoutTar(parts)))
    await world.pyro.environments.import('image:saved', hostFile('saved.tar', layoutTar(dockerSave([image]))))
    for (const name of ['image:folder', 'image:tar', 'image:saved']) {
      expect((await world.pyro.environments.inspect(name)).env).toMatchObject({ A: '1' })
      expect(await fileOf(name, '/etc/mark')).toBe('from the second layer')
    }
  })

  test('is read whichever way its layers are compressed', async () => {
    for (const compression of ['gzip', 'zstd'] as const) {
      const path = hostFile(`${compression}.tar`, layoutTar(ociLayout([{ ...image, compression }])))
      await world.pyro.environments.import(`image:${compression}`, path)
      expect(await fileOf(`image:${compression}`, '/etc/mark')).toBe('from the second layer')
    }
  })

  test('must be chosen where there are several, and each is an environment of its own', async () => {
    const two: Image[] = ['one', 'two'].map((ref) => ({ ref: `example.org/${ref}:1`, layers: [withMark(ref)] }))
    for (const [form, parts] of Object.entries({ oci: ociLayout(two), saved: dockerSave(two) })) {
      const path = hostFile(`two-${form}.tar`, layoutTar(parts))
      const unclear = await world.cli(['env', 'import', `${form}:x`, path])
      expect(unclear.code).toBe(2)
      expect(unclear.stderr).toContain('choose one with --image: example.org/one:1, example.org/two:1')
      const unknown = await world.cli(['env', 'import', `${form}:x`, path, '--image', 'three'])
      expect(unknown.code).toBe(2)
      expect(unknown.stderr).toContain('no image "three"; it holds: example.org/one:1, example.org/two:1')
      for (const ref of ['one', 'two']) {
        const chosen = await world.cli(['env', 'import', `${form}:${ref}`, path, '--image', `example.org/${ref}:1`])
        expect(chosen).toMatchObject({ code: 0 })
        expect(await fileOf(`${form}:${ref}`, '/etc/mark')).toBe(ref)
      }
    }
  })

  test('of another platform is refused, and of one name for several platforms this one is taken', async () => {
    const foreign: Image = { ref: null, layers: [withMark('foreign')], architecture: OTHER_ARCHITECTURE }
    const own: Image = { ref: null, layers: [withMark('own')] }
    const both = hostFile('both.tar', layoutTar(multiPlatformLayout('app:1', [foreign, own])))
    await world.pyro.environments.import('platform:both', both)
    expect(await fileOf('platform:both', '/etc/mark')).toBe('own')
    // Told by its config, and by the index it stands in.
    for (const parts of [ociLayout([foreign]), multiPlatformLayout('app:1', [foreign])]) {
      const refused = world.pyro.environments.import('platform:foreign', hostFile('foreign.tar', layoutTar(parts)))
      await expect(refused).rejects.toMatchObject({
        code: 'environment.invalid',
        message: expect.stringMatching(new RegExp(`${OTHER_ARCHITECTURE}.*nothing was installed$`)),
      })
    }
  })

  test('has what its upper layers delete taken away, and no more', async () => {
    const lower: TarMember[] = [
      ...small,
      { name: 'gone', content: 'x' },
      { name: 'emptied/old', content: 'x' },
      { name: 'emptied/deep/old', content: 'x' },
      { name: 'removed/file', content: 'x' },
      { name: 'became-a-folder', content: 'x' },
      { name: 'became-a-file/old', content: 'x' },
      { name: 'replaced', content: 'lower' },
      { name: 'kept', content: 'kept' },
    ]
    const upper: TarMember[] = [
      { name: '.wh.gone' },
      { name: '.wh.never-there' },
      { name: 'emptied/new', content: 'x' },
      { name: 'emptied/.wh..wh..opq' },
      { name: '.wh.removed' },
      folder('became-a-folder'),
      { name: 'became-a-folder/new', content: 'x' },
      { name: 'became-a-file', content: 'now a file' },
      { name: 'replaced', content: 'upper' },
    ]
    const layers = [lower, upper]
    await world.pyro.environments.import(
      'whiteouts:1',
      hostFile('wh.tar', layoutTar(ociLayout([{ ref: null, layers }]))),
    )
    await using ws = await world.pyro.workspaces.create({ environment: 'whiteouts:1', driver: 'fake', ...SMALL })
    const { stdout } = await ws.exec('ls -a / /emptied /became-a-folder; cat /became-a-file /replaced /kept')
    const names = stdout.split(/\s+/)
    for (const name of ['gone', 'removed', 'old', 'deep', 'lower']) expect(names).not.toContain(name)
    expect(names.filter((name) => name === 'new')).toHaveLength(2)
    expect(stdout).not.toContain('.wh.')
    expect(stdout).toMatch(/now a fileupperkept$/)
  })

  onEveryDriver('environment.image-honoured', async (driver) => {
    const config = { Env: ['GREETING=hello there', 'PATH=/opt/bin:/bin'], User: 'worker', WorkingDir: '/srv/app' }
    const layers = [[...small, folder('srv/app'), program('opt/bin/id')]]
    const parts = ociLayout([{ ref: 'app:1', layers, config }])
    await world.pyro.environments.import('honoured:1', hostFile('honoured.tar', layoutTar(parts)), { replace: true })
    await using ws = await world.pyro.workspaces.create({ environment: 'honoured:1', driver, ...SMALL })
    const asked = 'id -u; id -g; pwd; echo "$GREETING"; echo "$PATH"; echo "$HOME"'
    const asImage = await ws.exec(['/bin/sh', '-c', asked])
    expect(asImage.stdout).toBe('1234\n4321\n/srv/app\nhello there\n/opt/bin:/bin\n/srv/worker\n')
    const asCaller = await ws.exec(['/bin/sh', '-c', asked], { user: 'root', cwd: '/', env: { GREETING: 'bye' } })
    expect(asCaller.stdout).toBe('0\n0\n/\nbye\n/opt/bin:/bin\n/root\n')
    await ws.reset()
    expect((await ws.exec(['/bin/sh', '-c', asked])).stdout).toBe(asImage.stdout)
  })

  onEveryDriver('environment.name-places', async (driver) => {
    const obstacles = [folder('etc/hostname'), folder('etc/hosts'), { name: 'etc/hosts/inner', content: 'x' }]
    const archive = hostFile('obstacles.tar', tarOf([...small, ...obstacles]))
    await world.pyro.environments.import('obstacles:1', archive, { replace: true })
    await using ws = await world.pyro.workspaces.create({ environment: 'obstacles:1', driver, name: 'named', ...SMALL })
    const asked = 'cat /etc/hostname; while read a b; do echo $b; done < /etc/hosts'
    expect((await ws.exec(asked)).stdout).toMatch(/^named\nlocalhost\nnamed\n/)
  })

  onEveryDriver('environment.name-links', async (driver) => {
    const moved = small.map(({ name, ...rest }): TarMember => ({ name: name.replace(/^etc\//, 'usr/etc/'), ...rest }))
    const links: TarMember[] = [
      { name: 'etc', type: '2', link: 'usr/etc' },
      { name: 'usr/dbus/machine-id', content: 'of the environment' },
      { name: 'var/lib/dbus', type: '2', link: '/usr/dbus' },
    ]
    await world.pyro.environments.import('linked:1', hostFile('linked.tar', tarOf([...moved, ...links])), {
      replace: true,
    })
    await using ws = await world.pyro.workspaces.create({ environment: 'linked:1', driver, name: 'linked', ...SMALL })
    const { stdout } = await ws.exec('cat /usr/etc/hostname /etc/machine-id /var/lib/dbus/machine-id')
    expect(stdout).toMatch(/^linked\n([0-9a-f]{32})\n\1\n$/)
  })

  onEveryDriver('environment.working-folder-missing', async (driver) => {
    const config = { WorkingDir: 'not/there', User: '1234:4321' }
    const parts = ociLayout([{ ref: 'app:1', layers: [small], config }])
    await world.pyro.environments.import('nowhere:1', hostFile('nowhere.tar', layoutTar(parts)), { replace: true })
    await using ws = await world.pyro.workspaces.create({ environment: 'nowhere:1', driver, ...SMALL })
    const { exitCode, stdout, stderr } = await ws.exec(['/bin/sh', '-c', 'pwd; id -u; id -g'])
    expect({ exitCode, stdout, stderr }).toEqual({ exitCode: 0, stdout: '/not/there\n1234\n4321\n', stderr: '' })
  })
})

describe('a name', () => {
  test('that is taken is refused, and superseded with --replace', async () => {
    const first = await world.pyro.environments.import('name:1', hostFile('first.tar', tarOf(withMark('first'))))
    const second = hostFile('second.tar', tarOf(withMark('second')))
    const before = inventory(world)
    const taken = await world.cli(['env', 'import', 'name:1', second, '--json'])
    expect(taken.code).toBe(3)
    expect(JSON.parse(taken.stdout)).toMatchObject({
      error: { code: 'path.exists', hint: expect.stringContaining('--replace') },
    })
    expect(inventory(world)).toEqual(before)
    const replaced = await world.pyro.environments.import('name:1', second, { replace: true })
    expect(replaced.digest).not.toBe(first.digest)
    expect(await fileOf('name:1', '/etc/mark')).toBe('second')
  })

  test('asked for twice at one time goes to one, and the other leaves nothing', async () => {
    const before = inventory(world)
    const ends = await Promise.allSettled(
      ['left', 'right'].map((mark) =>
        world.pyro.environments.import('name:race', hostFile(`${mark}.tar`, tarOf(withMark(mark)))),
      ),
    )
    const lost = ends.find((end) => end.status === 'rejected')
    expect(ends.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
    expect(lost?.reason).toMatchObject({ code: 'path.exists' })
    expect(inventory(world)).toHaveLength(before.length + 2)
  })

  test('of the catalog is refused, also before it is installed', async () => {
    const root = hostFile('catalog.tar', tarOf(small))
    for (const extra of [[], ['--replace']]) {
      const refused = await world.cli(['env', 'import', 'debian:12-build', root, ...extra, '--json'])
      expect(refused.code).toBe(3)
      expect(JSON.parse(refused.stdout)).toMatchObject({
        error: { code: 'path.exists', hint: 'import it under another name' },
      })
    }
  })

  test('that is no name is refused', async () => {
    const root = hostFile('names.tar', tarOf(small))
    for (const name of ['Upper:1', '../up', '-x', 'a b', 'a:b:c', '']) {
      await expect(world.pyro.environments.import(name, root)).rejects.toMatchObject({ code: 'input.invalid' })
    }
  })
})
