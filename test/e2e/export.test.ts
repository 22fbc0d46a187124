import { execFileSync } from 'node:child_process'
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { afterAll, beforeAll, describe, expect } from 'vitest'
import { DriverWorkspaces, createOn } from '../support/driver-workspaces.ts'
import { onEveryDriver } from '../support/every-driver.ts'
import { makeProject, TemporaryFolder, transferred } from '../support/host-tree.ts'
import { listHost, listInside, listingDifference } from '../support/lister.ts'
import { World } from '../support/world.ts'

let world: World
beforeAll(async () => {
  world = await World.open()
})
afterAll(() => world[Symbol.asyncDispose]())

const workspaces = new DriverWorkspaces(() => world)
const ROOT = '0:0'

describe('export', () => {
  onEveryDriver('export.folder', async (driver) => {
    using folder = new TemporaryFolder()
    makeProject(folder.path)
    // With a time in whole seconds it stands in the tar without an extension, cut in two.
    const long = folder.at('packages/with-a-long-name/src/components/dialogs/settings/advanced/network/proxy')
    mkdirSync(long, { recursive: true })
    writeFileSync(`${long}/configuration-form.test.tsx`, 'long\n')
    utimesSync(`${long}/configuration-form.test.tsx`, 1_700_000_000, 1_700_000_000)
    await using ws = await createOn(world, driver, { seed: { path: folder.path } })
    using target = new TemporaryFolder()
    const exported = await ws.export('/workspace', { output: target.at('out') })
    expect(
      listingDifference(
        transferred(await listInside(ws, '/workspace'), ROOT),
        transferred(await listHost(target.at('out')), ROOT),
      ),
    ).toEqual([])
    const files = [...(await listHost(folder.path)).values()].filter((line) => !line.startsWith('d'))
    expect(exported).toMatchObject({
      path: '/workspace',
      type: 'directory',
      files: files.length,
      output: target.at('out'),
      gitHooks: false,
      skipped: 0,
    })
    expect(readdirSync(target.path)).toEqual(['out'])
  })

  onEveryDriver('export.file', async (driver) => {
    const ws = await workspaces.of(driver)
    using target = new TemporaryFolder()
    await ws.exec(
      'mkdir -p out; head -c 3000000 /dev/zero | tr "\\0" z > out/large; chmod 750 out/large; touch -d @1000000000 out/large; chown daemon out/large',
      { check: true },
    )
    expect(await ws.export('out/large', { output: target.at('mine') })).toMatchObject({
      type: 'file',
      files: 1,
      bytes: 3_000_000,
    })
    const stats = lstatSync(target.at('mine'))
    expect([stats.mode & 0o7777, stats.uid, stats.mtimeMs, stats.size]).toEqual([
      0o750,
      process.getuid?.(),
      1_000_000_000_000,
      3_000_000,
    ])
    expect(readFileSync(target.at('mine')).every((byte) => byte === 'z'.charCodeAt(0))).toBe(true)
    const chunks: Buffer[] = []
    await ws.export('/etc/hostname', { output: (tar) => void chunks.push(Buffer.from(tar)) })
    const listed = execFileSync('tar', ['-tf', '-'], { input: Buffer.concat(chunks) }).toString()
    expect(listed).toBe('hostname\n')
  })

  onEveryDriver('export.file', async (driver) => {
    const ws = await workspaces.of(driver)
    using target = new TemporaryFolder()
    const times = ['1901-12-14', '1969-07-20', '1970-01-01', '2106-02-08', '2255-01-01']
    // gVisor counts nanoseconds in 64 bits, which end in 2262.
    if (driver !== 'runsc') times.push('2400-02-29')
    mkdirSync(target.at('pushed/sub'), { recursive: true })
    for (const time of times) execFileSync('touch', ['-d', `${time} UTC`, target.at('pushed', time)])
    execFileSync('ln', ['-s', 'gone', target.at('pushed/link')])
    for (const name of ['link', 'sub']) execFileSync('touch', ['-h', '-d', '1969-07-20 UTC', target.at('pushed', name)])
    const shown = (folder: string): string => `cd ${folder} && stat -c '%n %Y' sub link [12]*`
    const expected = execFileSync('sh', ['-c', shown(target.at('pushed'))]).toString()
    await ws.push(target.at('pushed'), { dest: 'times' })
    expect((await ws.exec(shown('times'))).stdout).toBe(expected)
    await ws.export('times', { output: target.at('files') })
    expect(execFileSync('sh', ['-c', shown(target.at('files'))]).toString()).toBe(expected)
    await ws.export('times', { output: target.at('tar'), format: 'tar' })
    execFileSync('tar', ['-C', target.path, '--warning=no-timestamp', '-xf', target.at('tar')])
    expect(execFileSync('sh', ['-c', shown(target.at('times'))]).toString()).toBe(expected)
  })

  onEveryDriver('export.hostile-content', async (driver) => {
    const ws = await workspaces.of(driver)
    using target = new TemporaryFolder()
    await ws.exec(
      [
        'set -e; mkdir -p bad/sub; cd bad',
        'cp /bin/true set-id; chmod 6755 set-id; chmod 1777 sub; chmod g+s sub',
        'ln -s /etc/passwd absolute; ln -s ../../../../etc up; ln -s sub folder; ln -s nowhere dangling',
        'echo kept > sub/file; ln sub/file sub/hard; chown -R daemon:daemon sub',
        'mkdir -p .git/hooks; echo "#!/bin/sh" > .git/hooks/post-checkout; chmod +x .git/hooks/post-checkout',
      ].join('\n'),
      { check: true },
    )
    const exported = await ws.export('bad', { output: target.at('bad') })
    expect(exported).toMatchObject({ gitHooks: true, skipped: 0 })
    const mode = (name: string): number => lstatSync(target.at('bad', name)).mode & 0o7777
    expect([mode('set-id'), mode('sub')]).toEqual([0o755, 0o777])
    expect(readlinkSync(target.at('bad/absolute'))).toBe('/etc/passwd')
    expect(readlinkSync(target.at('bad/up'))).toBe('../../../../etc')
    expect(lstatSync(target.at('bad/sub/file')).uid).toBe(process.getuid?.())
    expect(lstatSync(target.at('bad/sub/file')).ino).toBe(lstatSync(target.at('bad/sub/hard')).ino)
    expect(readdirSync(target.at('bad')).sort()).toEqual([
      '.git',
      'absolute',
      'dangling',
      'folder',
      'set-id',
      'sub',
      'up',
    ])
  })

  onEveryDriver('export.named-pipes', async (driver) => {
    await using ws = await createOn(world, driver)
    using target = new TemporaryFolder()
    await ws.exec('mkdir -p with; mkfifo -m 640 with/pipe; echo kept > with/file', { check: true })
    await ws.snapshots.create('with-pipe')
    expect(await ws.export('with', { output: target.at('with') })).toMatchObject({ files: 1, skipped: 1 })
    expect(readdirSync(target.at('with'))).toEqual(['file'])
    expect((await ws.diff()).result.entries).toContainEqual(
      expect.objectContaining({ path: 'with/pipe', type: 'fifo', inPatch: false }),
    )
    await ws.exec('rm with/pipe', { check: true })
    await ws.reset({ snapshot: 'with-pipe' })
    expect((await ws.exec('stat -c "%F %a" with/pipe')).stdout).toBe('fifo 640\n')
  })

  onEveryDriver('export.existing-path', async (driver) => {
    const ws = await workspaces.of(driver)
    using target = new TemporaryFolder()
    await ws.exec(
      'mkdir -p set/sub; echo new > set/same; echo new > set/sub/same; echo added > set/added; ln -s same set/link',
      { check: true },
    )
    mkdirSync(target.at('set/sub'), { recursive: true })
    writeFileSync(target.at('outside'), 'outside\n')
    for (const name of ['set/same', 'set/sub/same', 'set/kept', 'set/sub/kept']) writeFileSync(target.at(name), 'old\n')
    // What stands there is replaced, never written through.
    symlinkSync('../outside', target.at('set/added'))
    const before = transferred(await listHost(target.path), ROOT)
    await expect(ws.export('set', { output: target.at('set') })).rejects.toMatchObject({
      code: 'path.exists',
      hint: expect.stringContaining('--force'),
    })
    await expect(ws.export('set', { output: target.at('no/parent') })).rejects.toMatchObject({ code: 'path.not-found' })
    await expect(ws.export('set/missing', { output: target.at('new') })).rejects.toMatchObject({
      code: 'path.not-found',
    })
    expect(listingDifference(before, transferred(await listHost(target.path), ROOT))).toEqual([])
    await ws.export('set', { output: target.at('set'), force: true })
    const text = (name: string): string => readFileSync(target.at(name), 'utf8')
    expect(['set/same', 'set/sub/same', 'set/added', 'set/kept', 'set/sub/kept', 'outside'].map(text)).toEqual([
      'new\n',
      'new\n',
      'added\n',
      'old\n',
      'old\n',
      'outside\n',
    ])
    expect(lstatSync(target.at('set/added')).isFile()).toBe(true)
    // A folder where the export has a file: nothing at all is moved.
    mkdirSync(target.at('clash/same'), { recursive: true })
    await expect(ws.export('set', { output: target.at('clash'), force: true })).rejects.toMatchObject({
      code: 'path.exists',
    })
    expect(readdirSync(target.at('clash'))).toEqual(['same'])
    expect(readdirSync(target.path).sort()).toEqual(['clash', 'outside', 'set'])
  })

  onEveryDriver('export.command-line', async (driver) => {
    const ws = await workspaces.of(driver)
    using target = new TemporaryFolder()
    await ws.exec('mkdir -p cli; echo text > cli/file', { check: true })
    const run = (...args: string[]) => world.cli(['workspace', 'export', ws.name, ...args])
    expect(await run('cli/file', '--output', target.at('file'))).toMatchObject({ code: 0, stdout: '' })
    expect(readFileSync(target.at('file'), 'utf8')).toBe('text\n')
    expect(await run('cli/file', '--output', target.at('file'))).toMatchObject({ code: 3 })
    expect(await run('cli', '--format', 'tar', '--output', target.at('cli.tar'))).toMatchObject({ code: 0 })
    expect(execFileSync('tar', ['-tf', target.at('cli.tar')]).toString()).toBe('cli/\ncli/file\n')
    expect(await run('cli/file', '--output', '-')).toMatchObject({ code: 0, stdout: 'text\n' })
    const piped = await run('cli', '--format', 'tar', '--output', '-')
    expect(execFileSync('tar', ['-xOf', '-'], { input: Buffer.from(piped.stdout, 'latin1') }).toString()).toBe('text\n')
    const json = JSON.parse((await run('cli/file', '--output', target.at('again'), '--json')).stdout) as object
    expect(json).toMatchObject({
      path: '/workspace/cli/file',
      output: target.at('again'),
      type: 'file',
      files: 1,
      bytes: 5,
    })
  })

  onEveryDriver('export.any-state', async (driver) => {
    await using ws = await createOn(world, driver)
    using target = new TemporaryFolder()
    await ws.exec('echo one > file', { check: true })
    await ws.snapshots.create('one')
    await ws.exec('echo two > file; rm /bin/sh /usr/bin/cat', { check: true })
    const content = async (snapshot?: string): Promise<string> => {
      const output = target.at(`file-${snapshot ?? 'current'}-${(await ws.status()).phase}`)
      await ws.export('file', { output, ...(snapshot === undefined ? {} : { snapshot }) })
      return readFileSync(output, 'utf8')
    }
    expect(await content()).toBe('two\n')
    expect(await content('one')).toBe('one\n')
    await ws.stop()
    expect(await content()).toBe('two\n')
    expect(await content('one')).toBe('one\n')
    expect((await ws.status()).phase).toBe('stopped')
    await expect(ws.export('file', { output: target.at('baseline'), snapshot: 'baseline' })).rejects.toMatchObject({
      code: 'path.not-found',
    })
    expect(existsSync(target.at('baseline'))).toBe(false)
  })
})
