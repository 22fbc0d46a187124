import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdirSync, readFileSync, rmSync, truncateSync, utimesSync, writeFileSync } from 'node:fs'
import type { Workspace } from '@pyro/sdk'
import { afterAll, beforeAll, describe, expect } from 'vitest'
import { DriverWorkspaces } from '../support/driver-workspaces.ts'
import { onEveryDriver } from '../support/every-driver.ts'
import { git, makeProject, TemporaryFolder, transferred } from '../support/host-tree.ts'
import { listHost, listInside, listingDifference, type Listing } from '../support/lister.ts'
import { World } from '../support/world.ts'

let world: World
beforeAll(async () => {
  world = await World.open()
})
afterAll(() => world[Symbol.asyncDispose]())

const workspaces = new DriverWorkspaces(() => world)
const ROOT = '0:0'
/** What is pushed or written while it is cancelled at moments spread over the time that it takes. */
const FILES = 100
const FILE_BYTES = 100_000
const CANCELS = 8

const inside = async (ws: Workspace, folder: string): Promise<Listing> =>
  transferred(await listInside(ws, folder), ROOT)

describe('sync push', () => {
  onEveryDriver('push.exact', async (driver) => {
    const ws = await workspaces.of(driver)
    using folder = new TemporaryFolder()
    makeProject(folder.path)
    const expected = transferred(await listHost(folder.path), ROOT)
    const pushed = await ws.push(folder.path, { dest: '/srv/project' })
    expect(listingDifference(expected, await inside(ws, '/srv/project'))).toEqual([])
    const files = [...expected.values()].filter((line) => !line.startsWith('d'))
    expect(pushed).toMatchObject({ workspaceId: ws.id, dest: '/srv/project', files: files.length, deleted: 0 })
    const archive = `/dev/shm/pyro-push-${process.pid}.tar.zst`
    execFileSync('tar', ['-C', folder.path, '--zstd', '-cf', archive, '.'])
    try {
      await ws.push(archive, { dest: 'from-archive' })
    } finally {
      rmSync(archive)
    }
    expect(listingDifference(expected, await inside(ws, '/workspace/from-archive'))).toEqual([])
  })

  onEveryDriver('push.merges', async (driver) => {
    const ws = await workspaces.of(driver)
    using folder = new TemporaryFolder()
    await ws.exec(
      'mkdir -p kept changed/inner was-folder; echo old > changed/file; echo kept > changed/inner/kept; echo x > was-file; chown daemon was-file; ln -sf /etc/passwd link; touch was-folder/full',
      { cwd: '/srv', check: true },
    )
    mkdirSync(folder.at('changed'))
    mkdirSync(folder.at('was-file'))
    writeFileSync(folder.at('changed/file'), 'new\n', { mode: 0o755 })
    writeFileSync(folder.at('was-file/inner'), 'now a folder\n')
    writeFileSync(folder.at('link'), 'now a file\n')
    utimesSync(folder.at('changed/file'), 1_000_000_000, 1_000_000_000)
    expect(await ws.push(folder.path, { dest: '/srv' })).toMatchObject({ files: 3, deleted: 0 })
    const seen = await ws.exec(
      'cat changed/file changed/inner/kept was-file/inner link; stat -c "%a %Y %U" changed/file; test ! -L link; ls -d kept was-folder/full; head -c 5 /etc/passwd',
      {
        cwd: '/srv',
      },
    )
    expect(seen.stdout).toBe('new\nkept\nnow a folder\nnow a file\n755 1000000000 root\nkept\nwas-folder/full\nroot:')
    expect((await ws.exec('ls -A / /srv | grep pyro')).stdout).toBe('')
  })

  onEveryDriver('push.delete', async (driver) => {
    const ws = await workspaces.of(driver)
    using folder = new TemporaryFolder()
    await ws.exec(
      'mkdir -p mirror/gone/deep mirror/kept; touch mirror/gone/deep/file mirror/kept/gone mirror/top; ln -s /etc mirror/etc; touch beside',
      { check: true },
    )
    mkdirSync(folder.at('kept'))
    writeFileSync(folder.at('kept/new'), 'new\n')
    const pushed = await ws.push(folder.path, { dest: '/workspace/mirror', delete: true })
    expect(
      listingDifference(transferred(await listHost(folder.path), ROOT), await inside(ws, '/workspace/mirror')),
    ).toEqual([])
    expect(pushed.deleted).toBeGreaterThanOrEqual(4)
    expect((await ws.exec('ls beside /etc/passwd')).exitCode).toBe(0)
  })

  onEveryDriver('push.git', async (driver) => {
    const ws = await workspaces.of(driver)
    using folder = new TemporaryFolder()
    await git(folder.path, 'init', '--quiet')
    writeFileSync(folder.at('.gitignore'), '*.log\n')
    for (const name of ['tracked', 'new', 'trace.log']) writeFileSync(folder.at(name), `${name}\n`)
    await git(folder.path, 'add', 'tracked')
    await ws.push(folder.path, { dest: 'git', git: true })
    expect((await ws.exec('ls -A git')).stdout).toBe('.gitignore\nnew\ntracked\n')
  })

  onEveryDriver('push.all-or-nothing', async (driver) => {
    const ws = await workspaces.of(driver)
    using folder = new TemporaryFolder()
    mkdirSync(folder.at('source'))
    for (let index = 0; index < 50; index++) writeFileSync(folder.at(`source/file-${index}`), 'x'.repeat(10_000))
    const archive = folder.at('whole.tar.gz')
    execFileSync('tar', ['-C', folder.at('source'), '-czf', archive, '.'])
    const cut = folder.at('cut.tar.gz')
    writeFileSync(cut, readFileSync(archive))
    truncateSync(cut, 1500)
    await ws.exec('mkdir -p target; echo before > target/file-1; echo text > plain', { check: true })
    const before = await inside(ws, '/workspace/target')
    await expect(ws.push(cut, { dest: 'target', delete: true })).rejects.toMatchObject({ code: 'archive.truncated' })
    await expect(ws.push(cut, { dest: 'not/there/yet' })).rejects.toMatchObject({ code: 'archive.truncated' })
    await expect(ws.push(folder.at('source'), { dest: 'plain' })).rejects.toMatchObject({ code: 'path.not-a-file' })
    await expect(ws.push(folder.at('missing'))).rejects.toMatchObject({ code: 'path.not-found' })
    expect(listingDifference(before, await inside(ws, '/workspace/target'))).toEqual([])
    expect((await ws.exec('ls -A not; ls -A / /workspace | grep pyro; cat plain')).stdout).toBe('text\n')
  })

  onEveryDriver('push.cancel', async (driver) => {
    const ws = await workspaces.of(driver)
    using folder = new TemporaryFolder()
    for (let index = 0; index < FILES; index++) writeFileSync(folder.at(`file-${index}`), randomBytes(FILE_BYTES))
    const content = 'x'.repeat(FILES * FILE_BYTES)
    const works = [
      { dest: 'pushed', work: (signal: AbortSignal) => ws.push(folder.path, { dest: 'pushed', signal }) },
      {
        dest: 'written',
        work: (signal: AbortSignal) => ws.files.write('written/file', content, { signal }),
      },
    ]
    const outcomes = new Set<string>()
    for (const { dest, work } of works) {
      const began = performance.now()
      await work(new AbortController().signal)
      const wholeMs = performance.now() - began
      const done = await ws.exec(`cat ${dest}/* | sha256sum`, { check: true })
      for (let part = 0; part <= CANCELS; part++) {
        await ws.exec(['rm', '-r', dest], { check: true })
        const ended = work(AbortSignal.timeout(Math.round((wholeMs * part * 1.2) / CANCELS)))
        const outcome = await ended.then(
          () => 'done',
          (error: unknown) => String(error),
        )
        outcomes.add(outcome)
        if (outcome === 'done') expect((await ws.exec(`cat ${dest}/* | sha256sum`)).stdout).toBe(done.stdout)
        else {
          expect(outcome).toMatch(/nothing was (written|changed)$/)
          expect((await ws.exec(`ls -A ${dest}; ls -A / /workspace | grep pyro; mkdir ${dest}`)).stdout).toBe('')
        }
      }
    }
    expect(outcomes.size).toBeGreaterThan(1)
  })

  onEveryDriver('push.shows-in-diff', async (driver) => {
    const ws = await workspaces.of(driver)
    using folder = new TemporaryFolder()
    writeFileSync(folder.at('pushed'), 'pushed\n')
    await ws.push(folder.path, { dest: 'in-diff' })
    const { result } = await ws.diff({ paths: ['in-diff'] })
    expect(result.entries).toContainEqual(expect.objectContaining({ path: 'in-diff/pushed', status: 'added' }))
    expect((await ws.snapshots.list())[0]).toMatchObject({ name: 'baseline', current: true })
    expect((await ws.status()).seed).toMatchObject({ mode: 'none', files: 0 })
  })
})
