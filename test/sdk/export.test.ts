import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Pyro } from '@pyro/sdk'
import { FRAME } from '@pyro/protocol/client'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { encodeHeader, HEADER_LIMIT_BYTES, type TarEntry } from '../../packages/sdk/src/host/tar/encode.ts'
import { EngineServer } from './engine-server.ts'

let folder = ''
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pyro-export-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const result = { path: 'x', type: 'directory', files: 1, bytes: 1, gitHooks: false, skipped: 0 }

interface ExportOptions {
  readonly force?: boolean
  readonly format?: 'files' | 'tar'
  /** Default: `out`. */
  readonly name?: string
}

/** Exports an archive into `folder`. */
const exportArchive = async (tar: Uint8Array, { name = 'out', ...options }: ExportOptions = {}): Promise<void> => {
  await using engine = await EngineServer.start({
    'GET /v1/workspaces/{workspace}': ({ reply }) => reply.json({ workspaceId: 'ws-abcdefghijkl', name: 'x' }),
    'POST /v1/workspaces/{workspace}/export': ({ reply }) => {
      for (let at = 0; at < tar.byteLength; at += 1000) reply.frame(FRAME.data, tar.subarray(at, at + 1000))
      reply.result(result)
    },
  })
  await using pyro = Pyro.open({ socket: engine.socket, home: engine.home })
  const workspace = await pyro.workspaces.get('x')
  await workspace.export('thing', { output: join(folder, name), ...options })
}

/** A tar as the system makes it, of a folder that `make` fills. */
const systemTar = (make: (root: string) => void): Buffer => {
  const source = mkdtempSync(join(tmpdir(), 'pyro-export-source-'))
  mkdirSync(join(source, 'thing'))
  make(join(source, 'thing'))
  const tar = execFileSync('tar', ['-C', source, '--format=pax', '-cf', '-', 'thing'], { maxBuffer: 1e9 })
  rmSync(source, { recursive: true })
  return tar
}

/** A tar that no honest program makes. */
const hostileTar = (
  entries: readonly (Partial<Omit<TarEntry, 'type'>> & { readonly path: string; readonly type: string })[],
): Buffer =>
  Buffer.concat([
    ...entries.map((entry) => {
      const header = Buffer.alloc(HEADER_LIMIT_BYTES)
      const whole = { mode: 0o755, mtimeSeconds: 1, sizeBytes: 0, linkName: '', ...entry } as TarEntry
      return header.subarray(0, encodeHeader(whole, header, 0))
    }),
    Buffer.alloc(1024),
  ])

describe('an export of files', () => {
  it('arrives whole, with modes, times and links, without set-id bits', async () => {
    const tar = systemTar((root) => {
      mkdirSync(join(root, 'sub', 'read-only'), { recursive: true })
      writeFileSync(join(root, 'sub', 'file'), 'content', { mode: 0o640 })
      writeFileSync(join(root, 'sub', 'read-only', 'inside'), 'x')
      chmodSync(join(root, 'sub', 'read-only'), 0o555)
      writeFileSync(join(root, 'tool'), '')
      chmodSync(join(root, 'tool'), 0o4755)
      symlinkSync('/etc/passwd', join(root, 'link'))
      writeFileSync(Buffer.concat([Buffer.from(`${root}/`), Buffer.from([0xff, 0xfe])]), 'bytes')
      execFileSync('ln', [join(root, 'tool'), join(root, 'n'.repeat(200))])
      execFileSync('touch', ['-d', '@1000000000', join(root, 'sub')])
    })
    await exportArchive(tar)
    const out = join(folder, 'out')
    expect(readFileSync(join(out, 'sub', 'file'), 'utf8')).toBe('content')
    expect(lstatSync(join(out, 'sub', 'file')).mode & 0o7777).toBe(0o640)
    expect(lstatSync(join(out, 'sub', 'read-only')).mode & 0o7777).toBe(0o555)
    expect(lstatSync(join(out, 'sub')).mtimeMs).toBe(1_000_000_000_000)
    expect(lstatSync(join(out, 'tool'))).toMatchObject({ nlink: 2 })
    expect(lstatSync(join(out, 'tool')).mode & 0o7777).toBe(0o755)
    expect(lstatSync(join(out, 'link')).isSymbolicLink()).toBe(true)
    expect(readdirSync(out, { encoding: 'buffer' }).some((name) => name.equals(Buffer.from([0xff, 0xfe])))).toBe(true)
    expect(readdirSync(folder)).toEqual(['out'])
  })

  it('of a single file is the file itself', async () => {
    const header = Buffer.alloc(HEADER_LIMIT_BYTES)
    const entry: TarEntry = { path: 'thing', type: '0', mode: 0o755, mtimeSeconds: 1, sizeBytes: 5, linkName: '' }
    const end = encodeHeader(entry, header, 0)
    await exportArchive(Buffer.concat([header.subarray(0, end), Buffer.from('hello'), Buffer.alloc(507 + 1024)]))
    expect(readFileSync(join(folder, 'out'), 'utf8')).toBe('hello')
  })

  it('as tar is the archive itself', async () => {
    const tar = systemTar((root) => writeFileSync(join(root, 'a'), 'a'))
    await exportArchive(tar, { format: 'tar' })
    expect(readFileSync(join(folder, 'out')).equals(tar)).toBe(true)
    expect(readdirSync(folder)).toEqual(['out'])
  })

  it.each(['files', 'tar'] as const)(
    'may be called whatever the filesystem takes, and no more (%s)',
    async (format) => {
      const tar = systemTar((root) => writeFileSync(join(root, 'a'), 'a'))
      const longest = 'ü'.repeat(127)
      await exportArchive(tar, { format, name: longest })
      expect(readdirSync(folder)).toEqual([longest])
      for (const force of [false, true]) {
        const tooLong = exportArchive(tar, { format, force, name: 'x'.repeat(256) })
        await expect(tooLong).rejects.toMatchObject({ code: 'path.unwritable' })
      }
      expect(readdirSync(folder)).toEqual([longest])
    },
  )

  it.each(['files', 'tar'] as const)('over something that exists is refused without --force (%s)', async (format) => {
    writeFileSync(join(folder, 'out'), 'mine')
    await expect(
      exportArchive(
        systemTar(() => undefined),
        { format },
      ),
    ).rejects.toMatchObject({ code: 'path.exists' })
    expect(readFileSync(join(folder, 'out'), 'utf8')).toBe('mine')
  })

  describe.each(['pipe', 'socket', 'device'] as const)('over a %s', (kind) => {
    const place = (): string => join(folder, 'out')
    const make = async (path: string): Promise<AsyncDisposable> => {
      if (kind === 'pipe') execFileSync('mkfifo', [path])
      // The numbers of /dev/null.
      else if (kind === 'device') execFileSync('mknod', [path, 'c', '1', '3'])
      const server = createServer()
      if (kind === 'socket') await new Promise<void>((resolve) => server.listen(path, resolve))
      return { [Symbol.asyncDispose]: async () => void server.close() }
    }
    const kindOf = (path: string): boolean[] => {
      const stats = lstatSync(path)
      return [stats.isFIFO(), stats.isSocket(), stats.isCharacterDevice()]
    }

    it.each([
      { format: 'files', force: false },
      { format: 'files', force: true },
      { format: 'tar', force: false },
      { format: 'tar', force: true },
    ] as const)('is refused: %o', async (options) => {
      await using _ = await make(place())
      const before = kindOf(place())
      const tar = systemTar((root) => writeFileSync(join(root, 'a'), 'a'))
      await expect(exportArchive(tar, options)).rejects.toMatchObject({
        code: 'path.not-a-file',
        message: expect.stringContaining(`${place()} is a ${kind}`),
        hint: expect.stringContaining('--output'),
      })
      expect(kindOf(place())).toEqual(before)
      expect(readdirSync(folder)).toEqual(['out'])
    })

    it('below a folder is refused with --force, and then nothing is changed at all', async () => {
      mkdirSync(place())
      await using _ = await make(join(place(), 'special'))
      const before = kindOf(join(place(), 'special'))
      const tar = systemTar((root) => {
        writeFileSync(join(root, 'first'), 'x')
        writeFileSync(join(root, 'special'), 'x')
      })
      await expect(exportArchive(tar, { force: true })).rejects.toMatchObject({ code: 'path.not-a-file' })
      expect(kindOf(join(place(), 'special'))).toEqual(before)
      expect(readdirSync(place())).toEqual(['special'])
    })
  })

  it.each([false, true])(
    'with a path that is too long for this host names it and the way out (force: %s)',
    async (force) => {
      const names = Array.from({ length: 20 }, (_, level) => `${level}-${'n'.repeat(240)}`)
      const entries = names.map((_, level) => ({ path: ['thing', ...names.slice(0, level + 1)].join('/'), type: '5' }))
      const tar = hostileTar([{ path: 'thing', type: '5' }, ...entries])
      await expect(exportArchive(tar, { force })).rejects.toMatchObject({
        code: 'path.unwritable',
        message: expect.stringMatching(/^thing\/0-n+….*n has too long a path for this host; nothing was written$/),
        hint: '--format tar writes an archive that can hold it',
      })
      expect(readdirSync(folder)).toEqual([])
      await exportArchive(tar, { format: 'tar' })
      expect(readFileSync(join(folder, 'out')).equals(tar)).toBe(true)
    },
  )

  it('is whole or refused when only its place is too long, not where it is staged', async () => {
    const names = Array.from({ length: 15 }, (_, level) => `${level}-${'n'.repeat(240)}`)
    const room = 4095 - join(folder, 'x'.repeat(255), ...names).length
    const entries = [...names, 'e'.repeat(room)].map((_, level, all) => ({
      path: ['thing', ...all.slice(0, level + 1)].join('/'),
      type: '5',
    }))
    const tar = hostileTar([{ path: 'thing', type: '5' }, ...entries])
    await expect(exportArchive(tar, { name: 'x'.repeat(255) })).rejects.toMatchObject({ code: 'path.unwritable' })
    expect(readdirSync(folder)).toEqual([])
  })

  it('into a folder that does not exist is refused', async () => {
    rmSync(folder, { recursive: true })
    await expect(exportArchive(systemTar(() => undefined))).rejects.toMatchObject({ code: 'path.not-found' })
  })

  it('with --force overwrites what it brings and removes nothing', async () => {
    const out = join(folder, 'out')
    mkdirSync(join(out, 'sub'), { recursive: true })
    writeFileSync(join(out, 'sub', 'replaced'), 'old')
    writeFileSync(join(out, 'sub', 'kept'), 'kept')
    symlinkSync('/etc/hostname', join(out, 'link'))
    const hostname = readFileSync('/etc/hostname', 'utf8')
    const tar = systemTar((root) => {
      mkdirSync(join(root, 'sub'))
      writeFileSync(join(root, 'sub', 'replaced'), 'new')
      writeFileSync(join(root, 'link'), 'a file now')
    })
    await exportArchive(tar, { force: true })
    expect(readFileSync(join(out, 'sub', 'replaced'), 'utf8')).toBe('new')
    expect(readFileSync(join(out, 'sub', 'kept'), 'utf8')).toBe('kept')
    expect(lstatSync(join(out, 'link')).isFile()).toBe(true)
    expect(readFileSync('/etc/hostname', 'utf8')).toBe(hostname)
  })

  it('with --force never goes through a symlink to a folder, and then changes nothing at all', async () => {
    const out = join(folder, 'out')
    mkdirSync(join(folder, 'elsewhere'))
    mkdirSync(out)
    symlinkSync(join(folder, 'elsewhere'), join(out, 'sub'))
    const tar = systemTar((root) => {
      writeFileSync(join(root, 'first'), 'x')
      mkdirSync(join(root, 'sub'))
      writeFileSync(join(root, 'sub', 'escaped'), 'x')
    })
    await expect(exportArchive(tar, { force: true })).rejects.toMatchObject({ code: 'path.exists' })
    expect(readdirSync(join(folder, 'elsewhere'))).toEqual([])
    expect(readdirSync(out)).toEqual(['sub'])
  })
})

describe('a hostile export', () => {
  it.each([
    [
      'leaves with ..',
      [
        { path: 'thing', type: '5' },
        { path: 'thing/../../escaped', type: '0' },
      ],
    ],
    ['is absolute', [{ path: '/tmp/pyro-escaped', type: '0' }]],
    [
      'starts elsewhere',
      [
        { path: 'thing', type: '5' },
        { path: 'other', type: '0' },
      ],
    ],
    [
      'writes through its own symlink',
      [
        { path: 'thing', type: '5' },
        { path: 'thing/l', type: '2', linkName: '/tmp' },
        { path: 'thing/l/escaped', type: '0' },
      ],
    ],
    [
      'replaces a folder by a symlink',
      [
        { path: 'thing', type: '5' },
        { path: 'thing/d', type: '5' },
        { path: 'thing/d', type: '2', linkName: '/tmp' },
      ],
    ],
    [
      'links to a file outside',
      [
        { path: 'thing', type: '5' },
        { path: 'thing/p', type: '1', linkName: '/etc/passwd' },
      ],
    ],
    [
      'links through a symlink',
      [
        { path: 'thing', type: '5' },
        { path: 'thing/l', type: '2', linkName: '/etc/passwd' },
        { path: 'thing/h', type: '1', linkName: 'thing/l' },
      ],
    ],
    ['holds a device', [{ path: 'thing', type: '3' }]],
    [
      'holds a pipe',
      [
        { path: 'thing', type: '5' },
        { path: 'thing/f', type: '6' },
      ],
    ],
    [
      'has an empty part',
      [
        { path: 'thing', type: '5' },
        { path: 'thing//x', type: '0' },
      ],
    ],
  ])('that %s is refused and leaves nothing', async (_what, entries) => {
    await expect(exportArchive(hostileTar(entries))).rejects.toMatchObject({ name: 'PyroError' })
    expect(readdirSync(folder)).toEqual([])
    expect(existsSync('/tmp/pyro-escaped') || existsSync('/tmp/escaped')).toBe(false)
  })

  it('that ends early leaves nothing', async () => {
    const tar = systemTar((root) => writeFileSync(join(root, 'a'), Buffer.alloc(10_000)))
    await expect(exportArchive(tar.subarray(0, 4000))).rejects.toMatchObject({ code: 'archive.truncated' })
    expect(readdirSync(folder)).toEqual([])
  })
})
