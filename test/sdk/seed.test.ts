import { execFileSync, spawn } from 'node:child_process'
import {
  chmodSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { planSeed, type Seed } from '../../packages/sdk/src/host/seed.ts'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'

let folder = ''
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pyro-seed-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

/** Unpacks a seed with the system's tar, which knows nothing of ours. */
const unpack = async (seed: Seed): Promise<string> => {
  const plan = await planSeed(seed)
  const target = join(folder, 'unpacked')
  mkdirSync(target)
  const tar = spawn('tar', ['-C', target, '-xpf', '-'], { stdio: ['pipe', 'inherit', 'inherit'] })
  for await (const chunk of plan.open())
    if (!tar.stdin.write(chunk)) await new Promise((resolve) => tar.stdin.once('drain', resolve))
  tar.stdin.end()
  expect(await new Promise((resolve) => tar.once('close', resolve))).toBe(0)
  return target
}

/** Every entry with type, mode, links, time, size and target; `find` is independent of our own code. */
const listing = (root: string): string =>
  execFileSync('find', ['.', '-printf', String.raw`%P %y %m %n %l %s %Ts` + '\n'], { cwd: root, encoding: 'latin1' })
    .split('\n')
    .map((line) => line.replace(/^(\S* d \d+) \d+( +)\d+/, '$1$2'))
    .toSorted()
    .join('\n')

const git = (cwd: string, ...args: string[]): string =>
  execFileSync('git', ['-c', 'user.name=t', '-c', 'user.email=t@t', '-c', 'protocol.file.allow=always', ...args], {
    cwd,
    encoding: 'utf8',
  })

/** A name that is no text, for a shell. */
const ODD_NAME = `"$(printf 'odd\\377')"`

describe('the folder we are in', () => {
  it.each(['path', 'git'])('is a seed (%s) also when its name is no text', (mode) => {
    const script = `
      const { planSeed } = await import(${JSON.stringify(new URL('../../packages/sdk/src/host/seed.ts', import.meta.url).href)})
      const { open } = await planSeed({ ${mode}: '.' })
      for await (const chunk of open()) process.stdout.write(chunk)`
    const line = `mkdir ${ODD_NAME} && cd ${ODD_NAME} && git init -q && echo x > file && "$@" | tar -t`
    const node = [process.execPath, '--input-type=module', '-e', script]
    const names = execFileSync('sh', ['-c', line, 'sh', ...node], { cwd: folder, encoding: 'utf8' })
    expect(names.split('\n')).toContain('file')
  })
})

describe('a folder as seed', () => {
  it('arrives whole: modes, times, links, empty folders, sparse and odd names', async () => {
    const source = join(folder, 'source')
    mkdirSync(join(source, 'sub', 'empty'), { recursive: true })
    mkdirSync(join(source, 'd'.repeat(120), 'e'.repeat(120), 'f'.repeat(120)), { recursive: true })
    writeFileSync(join(source, 'd'.repeat(120), 'e'.repeat(120), 'f'.repeat(120), 'deep'), 'deep')
    writeFileSync(join(source, 'run.sh'), '#!/bin/sh\n', { mode: 0o750 })
    writeFileSync(Buffer.concat([Buffer.from(`${source}/latin-`), Buffer.from([0xe4, 0xff])]), 'not UTF-8')
    writeFileSync(join(source, 'übung "quoted" \n'), 'x')
    writeFileSync(join(source, 'sparse'), '')
    truncateSync(join(source, 'sparse'), 3_000_000)
    writeFileSync(join(source, 'secret'), 'x', { mode: 0o600 })
    linkSync(join(source, 'run.sh'), join(source, 'sub', 'hard'))
    symlinkSync('../run.sh', join(source, 'sub', 'soft'))
    symlinkSync('/nowhere/at/all', join(source, 'dangling'))
    utimesSync(join(source, 'run.sh'), 1_000_000_000, 1_000_000_000)
    utimesSync(join(source, 'sub'), 1_100_000_000, 1_100_000_000)
    const target = await unpack({ path: source })
    const skipRoot = (text: string): string =>
      text
        .split('\n')
        .filter((line) => !line.startsWith(' '))
        .join('\n')
    expect(skipRoot(listing(target))).toBe(skipRoot(listing(source)))
    expect(readFileSync(join(target, 'sparse')).equals(Buffer.alloc(3_000_000))).toBe(true)
  })

  it('loses set-id bits', async () => {
    const source = join(folder, 'source')
    mkdirSync(source)
    writeFileSync(join(source, 'tool'), '')
    chmodSync(join(source, 'tool'), 0o6755)
    expect(lstatSync(join(await unpack({ path: source }), 'tool')).mode & 0o7777).toBe(0o755)
  })

  it('leaves sockets out and says so', async () => {
    const source = join(folder, 'source')
    mkdirSync(source)
    const server = createServer().listen(join(source, 'sock'))
    const skipped: string[] = []
    await planSeed({ path: source }, { onSkipped: (path) => void skipped.push(path) })
    server.close()
    expect(skipped).toEqual(['sock'])
  })

  it('refuses a named pipe in it by name, before anything is sent', async () => {
    const source = join(folder, 'source')
    mkdirSync(join(source, 'sub'), { recursive: true })
    execFileSync('mkfifo', [join(source, 'sub', 'pipe')])
    await expect(planSeed({ path: source })).rejects.toMatchObject({
      code: 'archive.unsafe-entry',
      data: { path: 'sub/pipe' },
    })
  })

  it('ends with an error when a file shrinks while it is read', async () => {
    const source = join(folder, 'source')
    mkdirSync(source)
    writeFileSync(join(source, 'log'), Buffer.alloc(5_000_000))
    const plan = await planSeed({ path: source })
    const drain = async (): Promise<void> => {
      for await (const chunk of plan.open()) if (chunk.length > 0) truncateSync(join(source, 'log'), 10)
    }
    await expect(drain()).rejects.toMatchObject({ code: 'path.unreadable' })
  })
})

describe('a seed path that cannot be one', () => {
  it.each([
    ['that is missing', (path: string) => path, 'path.not-found'],
    ['that is a plain file', (path: string) => (writeFileSync(path, ''), path), 'path.not-a-file'],
    ['that is a device', () => '/dev/null', 'path.not-a-file'],
    ['that is a named pipe', (path: string) => (execFileSync('mkfifo', [path]), path), 'path.not-a-file'],
  ])('%s is a typed error', async (_what, make, code) => {
    await expect(planSeed({ path: make(join(folder, 'thing')) })).rejects.toMatchObject({ code })
  })

  it('that is a socket is a typed error', async () => {
    const path = join(folder, 'sock.tar')
    const server = createServer().listen(path)
    await expect(planSeed({ path })).rejects.toMatchObject({
      code: 'path.not-a-file',
      message: expect.stringContaining('socket'),
    })
    server.close()
  })

  it('that another user cannot read is a typed error', async () => {
    const source = join(folder, 'source')
    mkdirSync(source)
    writeFileSync(join(source, 'secret'), '', { mode: 0o600 })
    chmodSync(folder, 0o755)
    const script = `
      const { planSeed } = await import(${JSON.stringify(new URL('../../packages/sdk/src/host/seed.ts', import.meta.url).href)})
      process.setgid(65534)
      process.setuid(65534)
      await planSeed({ path: ${JSON.stringify(source)} }).catch((error) => console.log(error.code))`
    expect(execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' })).toBe(
      'path.unreadable\n',
    )
  })
})

describe('an archive as seed', () => {
  it.each(['x.tar', 'x.tar.gz', 'x.tgz', 'x.tar.zst'])('%s is passed on byte for byte', async (name) => {
    const bytes = Buffer.alloc(2_500_000, 'archive')
    writeFileSync(join(folder, name), bytes)
    const plan = await planSeed({ path: join(folder, name) })
    const chunks: Uint8Array[] = []
    for await (const chunk of plan.open()) chunks.push(chunk)
    expect(Buffer.concat(chunks).equals(bytes)).toBe(true)
    expect(plan.input).toMatchObject({ mode: 'path', source: join(folder, name) })
  })
})

describe('a git work tree as seed', () => {
  it('brings tracked and new unignored files as the work tree has them, submodules too, no .git, and counts', async () => {
    const library = join(folder, 'library')
    mkdirSync(library)
    git(library, 'init', '-q')
    writeFileSync(join(library, 'lib.c'), 'lib')
    git(library, 'add', '.')
    git(library, 'commit', '-qm', 'library')
    const source = join(folder, 'source')
    mkdirSync(join(source, 'src'), { recursive: true })
    git(source, 'init', '-q')
    writeFileSync(join(source, '.gitignore'), 'build/\n*.log\n')
    writeFileSync(join(source, 'src', 'main.c'), 'old')
    writeFileSync(join(source, 'gone.c'), 'gone')
    writeFileSync(join(source, 'run.sh'), '', { mode: 0o755 })
    symlinkSync('main.c', join(source, 'src', 'link.c'))
    git(source, 'submodule', '--quiet', 'add', library, 'vendor/library')
    git(source, 'add', '.')
    git(source, 'commit', '-qm', 'first')
    writeFileSync(join(source, 'src', 'main.c'), 'new')
    writeFileSync(join(source, 'src', 'neu ä.c'), 'untracked')
    writeFileSync(join(source, 'vendor', 'library', 'more.c'), 'untracked in the submodule')
    rmSync(join(source, 'gone.c'))
    mkdirSync(join(source, 'build'))
    for (let index = 0; index < 50; index++) writeFileSync(join(source, 'build', `${index}.o`), '')
    writeFileSync(join(source, 'x.log'), '')
    const plan = await planSeed({ git: source })
    // main.c, gone.c and the submodule's new content; two new files; build/ and x.log.
    expect(plan.input).toEqual({ mode: 'git', source, modified: 3, untracked: 2, ignored: 2 })
    const target = await unpack({ git: source })
    const files = execFileSync('find', ['.', '-type', 'f', '-o', '-type', 'l'], { cwd: target, encoding: 'utf8' })
    expect(files.trim().split('\n').toSorted()).toEqual(
      [
        '.gitignore',
        '.gitmodules',
        'run.sh',
        'src/link.c',
        'src/main.c',
        'src/neu ä.c',
        'vendor/library/lib.c',
        'vendor/library/more.c',
      ]
        .map((name) => `./${name}`)
        .toSorted(),
    )
    expect(readFileSync(join(target, 'src', 'main.c'), 'utf8')).toBe('new')
    expect(lstatSync(join(target, 'run.sh')).mode & 0o777).toBe(0o755)
  })

  it('works before the first commit, and below the top level', async () => {
    const source = join(folder, 'source')
    mkdirSync(join(source, 'part'), { recursive: true })
    git(source, 'init', '-q')
    writeFileSync(join(source, 'part', 'a'), '')
    writeFileSync(join(source, 'b'), '')
    expect((await planSeed({ git: source })).input).toMatchObject({ untracked: 2, modified: 0 })
    expect((await planSeed({ git: join(source, 'part') })).input).toMatchObject({ untracked: 1 })
  })

  it('may hold work trees whose names are no text', async () => {
    const source = join(folder, 'source')
    mkdirSync(source)
    const inOdd = `mkdir ${ODD_NAME} && cd ${ODD_NAME} && git init -q && echo x > file`
    execFileSync('sh', ['-c', `git init -q && ${inOdd} && ${inOdd}`], { cwd: source })
    const target = await unpack({ git: source })
    const files = execFileSync('find', ['.', '-type', 'f'], { cwd: target, encoding: 'latin1' })
    expect(files.trim().split('\n').toSorted()).toEqual(['./odd\xff/file', './odd\xff/odd\xff/file'])
  })

  it('refuses a named pipe in the place of a tracked file by name, and leaves a socket out, saying so', async () => {
    const source = join(folder, 'source')
    mkdirSync(source)
    git(source, 'init', '-q')
    for (const name of ['a', 'sock']) writeFileSync(join(source, name), '')
    git(source, 'add', '.')
    rmSync(join(source, 'sock'))
    const server = createServer().listen(join(source, 'sock'))
    const skipped: string[] = []
    await planSeed({ git: source }, { onSkipped: (path) => void skipped.push(path) })
    server.close()
    expect(skipped).toEqual(['sock'])
    rmSync(join(source, 'a'))
    execFileSync('mkfifo', [join(source, 'a')])
    await expect(planSeed({ git: source })).rejects.toMatchObject({
      code: 'archive.unsafe-entry',
      hint: 'put the tracked file back: git restore a',
      data: { path: 'a' },
    })
  })

  it('needs a work tree: a bare repository, or a .git folder, has none', async () => {
    git(folder, 'init', '-q', '--bare', 'bare.git')
    git(folder, 'init', '-q', 'source')
    for (const path of ['bare.git', join('source', '.git')]) {
      await expect(planSeed({ git: join(folder, path) })).rejects.toMatchObject({
        code: 'input.invalid',
        message: expect.stringContaining('without a work tree'),
        hint: expect.stringContaining('git clone'),
      })
    }
  })

  it('ignores the repository a git hook points to', async () => {
    const source = join(folder, 'source')
    mkdirSync(source)
    git(source, 'init', '-q')
    writeFileSync(join(source, 'mine'), '')
    process.env['GIT_DIR'] = '/nonexistent'
    try {
      expect((await planSeed({ git: source })).input).toMatchObject({ untracked: 1 })
    } finally {
      delete process.env['GIT_DIR']
    }
  })

  it('says what a folder that is no work tree needs', async () => {
    await expect(planSeed({ git: folder })).rejects.toMatchObject({
      code: 'input.invalid',
      hint: expect.stringContaining('--seed-path'),
    })
  })
})
