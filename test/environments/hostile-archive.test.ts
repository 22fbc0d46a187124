import { randomBytes } from 'node:crypto'
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import { EXIT, isPyroError } from '@pyro/protocol'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { tarOf, type TarMember } from '../support/tar.ts'
import { World } from '../support/world.ts'
import { layoutTar, ociLayout, type Parts } from './image-layout.ts'
import { inventory } from './inventory.ts'
import { folder, program } from './root-filesystem.ts'

const MIB = 1024 * 1024
const LIMITS = { archiveEntries: 2000, archiveBytes: 16 * MIB, archivePathBytes: 1024 }
/** What a few hundred kilobytes become. */
const BOMB_BYTES = 256 * MIB

let world: World
beforeAll(async () => {
  world = await World.open({ env: { PYRO_LIMITS: JSON.stringify(LIMITS) } })
})
afterAll(() => world[Symbol.asyncDispose]())

interface Refusal {
  readonly code: string
  /** What the message must name. */
  readonly names?: string
}

/** How an import of this content is refused, and what it leaves behind. */
const refusalOf = async (content: Buffer, image?: string) => {
  const path = join(world.folder, 'archive')
  writeFileSync(path, content)
  const before = inventory(world)
  try {
    await world.pyro.environments.import('hostile:1', path, { image })
  } catch (error) {
    if (!isPyroError(error)) throw error
    const { code, message, hint } = error
    return { code, message, hint, left: inventory(world).filter((name) => !before.includes(name)) }
  }
  throw new Error('the import was accepted')
}

const refused = ({ code, names = '' }: Refusal) => ({
  code,
  message: expect.toSatisfy(
    (message: string) => message.includes(names) && message.endsWith('; nothing was installed'),
  ) as unknown,
  hint: expect.stringMatching(/./) as unknown,
  left: [],
})

const harmless: TarMember[] = [folder('bin'), program('bin/busybox')]

describe('an archive', () => {
  const unsafe: Record<string, TarMember[]> = {
    '../evil': [{ name: '../evil', content: 'x' }],
    'deep/../../evil': [{ name: 'deep/../../evil', content: 'x' }],
    '/etc/evil': [{ name: '/etc/evil', content: 'x' }],
    'hard-link-out': [{ name: 'hard-link-out', type: '1', link: '../../../../etc/passwd' }],
    'hard-link-through': [
      { name: 'up', type: '2', link: '/../../..' },
      { name: 'hard-link-through', type: '1', link: 'up/etc/hostname' },
    ],
    'hard-link-to-nothing': [{ name: 'hard-link-to-nothing', type: '1', link: 'nowhere' }],
    'hard-link-to-folder': [{ name: 'hard-link-to-folder', type: '1', link: 'bin' }],
    'loop/file': [
      { name: 'loop', type: '2', link: 'loop' },
      { name: 'loop/file', content: 'x' },
    ],
    'dangling/file': [
      { name: 'dangling', type: '2', link: '/nowhere' },
      { name: 'dangling/file', content: 'x' },
    ],
    'bin/busybox/file': [{ name: 'bin/busybox/file', content: 'x' }],
  }

  test.each(Object.entries(unsafe))('with the entry %s is refused by its name', async (name, members) => {
    expect(await refusalOf(tarOf([...harmless, ...members]))).toEqual(
      refused({ code: 'archive.unsafe-entry', names: `"${name}"` }),
    )
  })

  test('with symlinks that point out of it is unpacked inside itself alone', async () => {
    const name = `pyro-escape-${randomBytes(6).toString('hex')}`
    const members: TarMember[] = [
      folder('tmp'),
      { name: 'up', type: '2', link: '../../../../../../../..' },
      { name: `up/tmp/${name}`, content: 'x' },
      { name: 'absolute', type: '2', link: '/tmp' },
      { name: `absolute/${name}-too`, content: 'x' },
    ]
    const path = join(world.folder, 'links.tar')
    writeFileSync(path, tarOf([...harmless, ...members]))
    await world.pyro.environments.import('links:1', path)
    expect([name, `${name}-too`].filter((left) => existsSync(join('/tmp', left)))).toEqual([])
    await using ws = await world.pyro.workspaces.create({ environment: 'links:1', driver: 'fake', memoryMib: 256 })
    const { stdout } = await ws.exec(['/bin/busybox', 'ls', '/tmp'])
    expect(stdout.split('\n').sort()).toEqual(['', name, `${name}-too`])
  })

  const unusable: Record<string, [Buffer, Refusal]> = {
    'is empty': [Buffer.alloc(0), { code: 'archive.truncated' }],
    'holds nothing': [tarOf([]), { code: 'environment.invalid', names: 'holds no file' }],
    'is a text': [Buffer.from('no archive\n'.repeat(200)), { code: 'environment.invalid', names: 'no tar archive' }],
    'is a short text': [Buffer.from('hi'), { code: 'environment.invalid', names: 'no tar archive' }],
    'is a compressed text': [gzipSync('text'.repeat(500)), { code: 'environment.invalid', names: 'no tar archive' }],
    'is compressed in a way we do not read': [
      Buffer.concat([Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]), randomBytes(2000)]),
      { code: 'environment.invalid', names: 'gzip or zstd' },
    ],
    'is cut off inside a file': [tarOf(harmless).subarray(0, 100_000), { code: 'archive.truncated', names: 'busybox' }],
    'is cut off before its end': [tarOf(harmless).subarray(0, -1024), { code: 'archive.truncated' }],
    'is cut off in its gzip': [gzipSync(tarOf(harmless)).subarray(0, 100_000), { code: 'archive.truncated' }],
    'is cut off in its zstd': [zstdCompressSync(tarOf(harmless)).subarray(0, 100_000), { code: 'archive.truncated' }],
    'has a file in the place of /proc': [
      tarOf([...harmless, { name: 'proc', content: 'x' }]),
      { code: 'environment.invalid', names: '/proc' },
    ],
    'has a symlink in the place of /tmp': [
      tarOf([...harmless, { name: 'tmp', type: '2', link: '/etc' }]),
      { code: 'environment.invalid', names: '/tmp' },
    ],
    'has a file in the place of /etc': [
      tarOf([...harmless, { name: 'etc', content: 'x' }]),
      { code: 'environment.invalid', names: '/etc' },
    ],
    'has an /etc that leads nowhere': [
      tarOf([...harmless, { name: 'etc', type: '2', link: 'usr/etc' }]),
      { code: 'environment.invalid', names: '/etc' },
    ],
    'has an /etc that leads to itself': [
      tarOf([...harmless, { name: 'etc', type: '2', link: 'etc' }]),
      { code: 'environment.invalid', names: '/etc' },
    ],
    'has a file in the place of /lost+found': [
      tarOf([...harmless, { name: 'lost+found', content: 'x' }]),
      { code: 'environment.invalid', names: '/lost+found' },
    ],
    'has owners that no sandbox has': [
      tarOf([...harmless, { name: 'theirs', uid: 70_000 }]),
      { code: 'environment.invalid', names: 'user 70000' },
    ],
  }

  test.each(Object.entries(unusable))('that %s is refused', async (_, [content, refusal]) => {
    expect(await refusalOf(content)).toEqual(refused(refusal))
  })
})

describe('beyond a limit is refused', () => {
  test('an archive with too many entries', async () => {
    const members = Array.from({ length: LIMITS.archiveEntries + 1 }, (_, at): TarMember => ({ name: `f${at}` }))
    expect(await refusalOf(tarOf(members))).toEqual(
      refused({ code: 'archive.too-large', names: `${LIMITS.archiveEntries} entries` }),
    )
  })

  test('an archive with too many bytes, in one file or in many', async () => {
    const half = Buffer.alloc(LIMITS.archiveBytes / 2 + 1)
    for (const members of [[Buffer.concat([half, half])], [half, half]])
      expect(await refusalOf(tarOf(members.map((content, at) => ({ name: `f${at}`, content }))))).toEqual(
        refused({
          code: 'archive.too-large',
          names: `${LIMITS.archiveBytes} bytes`,
        }),
      )
  })

  test('a path that is too long, and a name that no filesystem takes', async () => {
    const long = `${'d/'.repeat(LIMITS.archivePathBytes / 2)}file`
    for (const [name, what] of [
      [long, 'longer than 1024 bytes'],
      ['n'.repeat(256), 'longer than 255 bytes'],
    ] as const)
      expect(await refusalOf(tarOf([...harmless, { name: 'short', content: 'x', pax: { path: name } }]))).toEqual(
        refused({
          code: 'archive.too-large',
          names: what,
        }),
      )
  })

  test('a sparse file that would be larger than any', async () => {
    const pax = { 'GNU.sparse.major': '1', 'GNU.sparse.minor': '0', 'GNU.sparse.realsize': String(2 ** 50) }
    const map = Buffer.alloc(512)
    map.write('1\n0\n0\n')
    const sparse: TarMember = { name: 'sparse', content: map, pax: { ...pax, 'GNU.sparse.name': 'sparse' } }
    expect(await refusalOf(tarOf([...harmless, sparse]))).toEqual(
      refused({ code: 'archive.too-large', names: '"sparse"' }),
    )
  })

  test('what a small file uncompresses to', async () => {
    const zeros = Buffer.alloc(BOMB_BYTES)
    for (const bomb of [gzipSync(zeros, { level: 1 }), zstdCompressSync(zeros)])
      expect(await refusalOf(bomb)).toEqual(refused({ code: 'archive.too-large' }))
  })

  test('a layer of an image that does the same', async () => {
    const layer: TarMember[] = [{ name: 'zeros', content: Buffer.alloc(2 * LIMITS.archiveBytes) }]
    const parts = ociLayout([{ ref: null, layers: [harmless, layer], compression: 'gzip' }])
    expect(await refusalOf(layoutTar(parts))).toEqual(refused({ code: 'archive.too-large', names: '"zeros"' }))
  })
})

describe('an image layout', () => {
  const layout = ociLayout([{ ref: 'app:1', layers: [harmless] }])
  const large = ([, content]: readonly [string, Buffer]): boolean => content.length > MIB
  const changed = (change: (part: readonly [string, Buffer]) => Buffer | null): Parts =>
    new Map(
      [...layout].flatMap((part): [string, Buffer][] => {
        const content = change(part)
        return content === null ? [] : [[part[0], content]]
      }),
    )
  const index = (content: string): Parts =>
    changed(([name, old]) => (name === 'index.json' ? Buffer.from(content) : old))

  const broken: Record<string, [Parts, Refusal]> = {
    'without its index': [
      changed(([name, content]) => (name === 'index.json' ? null : content)),
      { code: 'environment.invalid', names: 'no index.json' },
    ],
    'with an index that is no JSON': [index('{'), { code: 'environment.invalid', names: 'index.json' }],
    'without images': [index('{"manifests":[]}'), { code: 'environment.invalid', names: 'no image' }],
    'with a digest that is a path': [
      index('{"manifests":[{"digest":"sha256:../../../../etc/passwd"}]}'),
      { code: 'environment.invalid', names: 'not a digest' },
    ],
    'without a layer': [
      changed((part) => (large(part) ? null : part[1])),
      { code: 'environment.invalid', names: 'no part "blobs/' },
    ],
    'with a layer that is not what its digest says': [
      changed((part) => (large(part) ? Buffer.concat([part[1], Buffer.alloc(512)]) : part[1])),
      { code: 'archive.truncated', names: 'its digest is' },
    ],
    'with a config that is not what its digest says': [
      changed(([, content]) => (content.includes('"rootfs"') ? Buffer.from(`${content.toString()} `) : content)),
      { code: 'archive.truncated', names: 'its digest is' },
    ],
  }

  test.each(Object.entries(broken))('%s is refused', async (_, [parts, refusal]) => {
    expect(await refusalOf(layoutTar(parts))).toEqual(refused(refusal))
  })

  test('is not what a root filesystem is: asking it for an image is refused', async () => {
    expect(await refusalOf(tarOf(harmless), 'app:1')).toEqual(
      refused({ code: 'environment.invalid', names: 'no image "app:1"' }),
    )
  })

  test('has the entries of its layers checked as any', async () => {
    const escape: TarMember[] = [{ name: 'a/../../evil', content: 'x' }]
    const whiteout: TarMember[] = [{ name: '.wh...', content: '' }]
    for (const layer of [escape, whiteout])
      expect(await refusalOf(layoutTar(ociLayout([{ ref: null, layers: [harmless, layer] }])))).toEqual(
        refused({
          code: 'archive.unsafe-entry',
        }),
      )
  })
})

test('the command line tells a refused archive as a usage error, with what to do', async () => {
  const path = join(world.folder, 'refused.tar')
  writeFileSync(path, tarOf([{ name: '../evil', content: 'x' }]))
  const { code, stdout, stderr } = await world.cli(['env', 'import', 'refused:1', path])
  expect({ code, stdout }).toEqual({ code: EXIT.usage, stdout: '' })
  expect(stderr).toContain('hint: make the archive without this entry')
  const missing = await world.cli(['env', 'import', 'refused:1', join(world.folder, 'missing.tar')])
  expect(missing).toMatchObject({ code: EXIT.notFound, stderr: expect.stringContaining('missing.tar') })
})
