import { writeFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect } from 'vitest'
import { DriverWorkspaces } from '../support/driver-workspaces.ts'
import { onEveryDriver } from '../support/every-driver.ts'
import { TemporaryFolder } from '../support/host-tree.ts'
import { rejectionOf } from '../support/rejection.ts'
import { World } from '../support/world.ts'

let world: World
beforeAll(async () => {
  world = await World.open()
})
afterAll(() => world[Symbol.asyncDispose]())

const workspaces = new DriverWorkspaces(() => world)

describe('file read', () => {
  onEveryDriver('file.read-lines', async (driver) => {
    const ws = await workspaces.of(driver)
    await ws.exec('mkdir -p src; seq 1000 > src/numbers; printf "a\\nb" > open', { check: true })
    const { files } = ws
    expect(await files.read('src/numbers', { startLine: 10, maxLines: 3 })).toEqual({
      path: '/workspace/src/numbers',
      sizeBytes: 3893,
      mode: '0644',
      text: '10\n11\n12\n',
      startLine: 10,
      lines: 3,
      totalLines: 1000,
      offset: 18,
      bytes: 9,
      more: true,
    })
    const whole = await files.read('/workspace/src/numbers')
    expect(whole).toMatchObject({ startLine: 1, lines: 400, more: true })
    expect(whole.text.endsWith('\n400\n')).toBe(true)
    expect(await files.read('open', { startLine: 2 })).toMatchObject({
      text: 'b',
      lines: 1,
      totalLines: 2,
      more: false,
    })
    expect(await files.read('open', { startLine: 9 })).toMatchObject({ text: '', lines: 0, totalLines: 2, more: false })
    const line = await world.cli([
      'workspace',
      'file',
      'read',
      ws.name,
      'src/numbers',
      '--start-line',
      '999',
      '--max-lines',
      '5',
    ])
    expect(line).toMatchObject({ code: 0, stdout: '999\n1000\n' })
  })

  onEveryDriver('file.read-bytes', async (driver) => {
    const ws = await workspaces.of(driver)
    await ws.exec(String.raw`printf '\000\001\377\376text' > bytes; head -c 200000 /dev/zero > large`, { check: true })
    const bytes = await ws.files.read('bytes', { offset: 1, maxBytes: 4 })
    expect(bytes).toMatchObject({ offset: 1, bytes: 4, sizeBytes: 8, more: true, startLine: null, totalLines: null })
    expect(Buffer.from(bytes.textBase64 ?? '', 'base64')).toEqual(Buffer.from([1, 0xff, 0xfe, 0x74]))
    expect(bytes.text).toBe('\u0001\uFFFD\uFFFDt')
    expect(await ws.files.read('large', { offset: 0 })).toMatchObject({ bytes: 65_536, more: true, sizeBytes: 200_000 })
    expect(await ws.files.read('large', { maxBytes: 1_000_000 })).toMatchObject({ bytes: 200_000, more: false })
    const raw = await world.cli(['workspace', 'file', 'read', ws.name, 'bytes', '--offset', '0'])
    expect(raw.stdout).toBe('\0\x01\xff\xfetext')
  })

  onEveryDriver('file.read-refuses', async (driver) => {
    const ws = await workspaces.of(driver)
    await ws.exec(
      'mkdir -p folder; mkfifo -m 666 pipe; ln -sf ../etc/passwd out; ln -sf bytes inside; echo x > bytes',
      { check: true },
    )
    const refusal = (path: string): Promise<unknown> => rejectionOf(ws.files.read(path))
    expect(await refusal('missing')).toMatchObject({ code: 'path.not-found' })
    expect(await refusal('folder')).toMatchObject({ code: 'path.not-a-file' })
    expect(await refusal('pipe')).toMatchObject({ code: 'path.not-a-file' })
    expect(await refusal('../etc/passwd')).toMatchObject({
      code: 'path.outside-root',
      hint: expect.stringContaining('--root /'),
    })
    expect(await refusal('out')).toMatchObject({ code: 'path.outside-root' })
    expect(await refusal('/etc/passwd')).toMatchObject({ code: 'path.outside-root' })
    expect((await ws.files.read('etc/passwd', { root: '/', maxLines: 1 })).text).toContain('root:')
    expect((await ws.files.read('inside')).text).toBe('x\n')
    await expect(ws.files.read('bytes', { offset: 0, startLine: 1 })).rejects.toMatchObject({ code: 'input.invalid' })
  })
})

describe('file write', () => {
  onEveryDriver('file.write', async (driver) => {
    const ws = await workspaces.of(driver)
    const { files } = ws
    expect(await files.write('new/deep/file', 'one\n')).toEqual({
      path: '/workspace/new/deep/file',
      created: true,
      sizeBytes: 4,
      mode: '0644',
      replaced: null,
    })
    const bytes = Buffer.from([0, 255, 1, 254])
    expect(await files.write('new/bytes', bytes, { mode: '0750' })).toMatchObject({
      created: true,
      mode: '0750',
      sizeBytes: 4,
    })
    await ws.exec('chmod 600 new/deep/file; chown daemon:daemon new/deep/file; ln -sf deep/file new/link', {
      check: true,
    })
    expect(await files.write('new/deep/file', 'two, longer\n')).toMatchObject({
      created: false,
      mode: '0600',
      sizeBytes: 12,
    })
    expect(await files.write('tmp/elsewhere', 'x', { root: '/' })).toMatchObject({ path: '/tmp/elsewhere' })
    expect(await files.write('new/empty', '')).toMatchObject({ sizeBytes: 0 })
    expect(await files.write('new/link', 'through the link\n')).toMatchObject({ created: false })
    const seen = await ws.exec(
      'cat new/deep/file; stat -c %a:%U new/deep/file; od -An -tx1 new/bytes; stat -c %a new/bytes; test -L new/link && ls -A new',
    )
    expect(seen.stdout).toBe('through the link\n600:daemon\n 00 ff 01 fe\n750\nbytes\ndeep\nempty\nlink\n')
    const refusal = (path: string): Promise<unknown> => rejectionOf(files.write(path, 'x'))
    expect(await refusal('new/deep')).toMatchObject({ code: 'path.not-a-file' })
    expect(await refusal('new/bytes/below')).toMatchObject({
      code: expect.stringMatching(/^path\.not-(a-file|found)$/),
    })
    expect(await refusal('../etc/new')).toMatchObject({ code: 'path.outside-root' })
    expect((await ws.exec('ls /etc/new')).exitCode).toBe(2)
  })

  onEveryDriver('file.write-is-atomic', async (driver) => {
    const ws = await workspaces.of(driver)
    const sizes = [200_000, 100_000]
    await ws.files.write('changing', 'a'.repeat(sizes[0] ?? 0))
    const watcher = await ws.exec(
      'while [ ! -e done ]; do cat changing | tr -d "\\n" | sort -u | wc -c; touch watching; done | sort -u',
      { detach: true },
    )
    await ws.exec('until [ -e watching ]; do sleep 0.01; done', { check: true })
    for (let round = 0; round < 20; round++) {
      await ws.files.write('changing', (round % 2 === 0 ? 'b' : 'a').repeat(sizes[(round + 1) % 2] ?? 0))
    }
    await ws.exec(['touch', 'done'], { check: true })
    const { stdout, stderr, exitCode } = await watcher.wait()
    // One kind of letter, in one of two lengths, and the newline that sort adds.
    const seen = stdout.split('\n').slice(0, -1).map(Number)
    expect({ exitCode, stderr, others: seen.filter((size) => !sizes.includes(size - 1)) }).toEqual({
      exitCode: 0,
      stderr: '',
      others: [],
    })
  })

  onEveryDriver('file.write-old-text', async (driver) => {
    const ws = await workspaces.of(driver)
    const { files } = ws
    await files.write('code', 'alpha = 1\nbeta = 2\nbeta = 2\ngamma = 3\n', { mode: '0755' })
    expect(await files.write('code', 'alpha = 10', { oldText: 'alpha = 1' })).toMatchObject({
      created: false,
      replaced: 1,
      mode: '0755',
    })
    await expect(files.write('code', 'x', { oldText: 'beta = 2' })).rejects.toMatchObject({
      code: 'path.text-mismatch',
      message: expect.stringContaining('2'),
    })
    await expect(files.write('code', 'x', { oldText: 'gama = 3' })).rejects.toMatchObject({
      code: 'path.text-mismatch',
      message: expect.stringContaining('gamma = 3'),
    })
    await expect(files.write('absent', 'x', { oldText: 'y' })).rejects.toMatchObject({ code: 'path.not-found' })
    expect((await files.read('code')).text).toBe('alpha = 10\nbeta = 2\nbeta = 2\ngamma = 3\n')
    expect(await files.write('code', 'delta', { oldText: 'beta = 2', replaceAll: true })).toMatchObject({ replaced: 2 })
    expect((await files.read('code')).text).toBe('alpha = 10\ndelta\ndelta\ngamma = 3\n')
  })

  onEveryDriver('file.write-command-line', async (driver) => {
    const ws = await workspaces.of(driver)
    using folder = new TemporaryFolder()
    const write = (...args: string[]) => world.cli(['workspace', 'file', 'write', ws.name, ...args])
    expect(await world.cli(['workspace', 'file', 'write', ws.name, 'typed'], { input: 'from stdin\n' })).toMatchObject({
      code: 0,
    })
    expect(await write('given', '--text', 'given', '--mode', '0700')).toMatchObject({ code: 0 })
    writeFileSync(folder.at('host'), Buffer.from([0xff, 0x00]))
    expect(await write('copied', '--file', folder.at('host'))).toMatchObject({ code: 0 })
    expect(await write('given', '--old-text', 'given', '--text', 'taken')).toMatchObject({ code: 0 })
    expect(await write('given', '--old-text', 'given', '--text', 'taken')).toMatchObject({ code: 3 })
    const seen = await ws.exec('cat typed; cat given; stat -c :%a given; od -An -tx1 copied')
    expect(seen.stdout).toBe('from stdin\ntaken:700\n ff 00\n')
  })
})
