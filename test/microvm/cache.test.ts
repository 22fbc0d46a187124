import { execFileSync, spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createOn } from '../support/driver-workspaces.ts'
import { ENVIRONMENT_CACHE, until, World } from '../support/world.ts'

const MIB = 1024 * 1024
const NOWHERE = 'http://127.0.0.1:9'

/** A cache of its own: what is lost here is nobody else's. */
let cache: string
let world: World
beforeAll(async () => {
  cache = mkdtempSync(join(tmpdir(), 'pyro-cache-'))
  const filled = existsSync(ENVIRONMENT_CACHE) ? readdirSync(ENVIRONMENT_CACHE) : []
  for (const name of filled.filter((candidate) => candidate !== 'templates'))
    cpSync(join(ENVIRONMENT_CACHE, name), join(cache, name), { recursive: true })
  world = await World.open({ env: { PYRO_ENVIRONMENT_CACHE: cache } })
})
afterAll(async () => {
  await world[Symbol.asyncDispose]()
  rmSync(cache, { recursive: true, force: true })
})

const names = (folder: string): string[] => readdirSync(join(cache, folder)).sort()

/** All its content is lost, and nothing of it looks different. */
const damage = (file: string): void => {
  const { size } = statSync(file)
  const like = join(world.folder, 'like')
  writeFileSync(like, '')
  execFileSync('touch', ['-r', file, like])
  truncateSync(file, 0)
  truncateSync(file, size)
  execFileSync('touch', ['-r', like, file])
}

test('a workspace starts although the memory of its template is damaged, which goes', async () => {
  await using ws = await createOn(world, 'qemu')
  await ws.stop()
  const made = names('templates')
  expect(made).not.toEqual([])
  for (const name of made) damage(join(cache, 'templates', name, 'memory'))
  await ws.start()
  expect((await ws.exec('echo here', { check: true })).stdout).toBe('here\n')
  expect(names('templates')).toHaveLength(made.length - 1)
  expect(world.engineLog()).toContain('a start failed: its template is thrown away')
  await ws.reset()
  expect((await ws.exec('echo here', { check: true })).stdout).toBe('here\n')
})

describe('what a killed engine left half-made', () => {
  /** Its parent takes no notice of its end: a shell that became another program. */
  let zombie: string
  let parent: ChildProcess
  beforeAll(async () => {
    parent = spawn('sh', ['-c', 'sleep 600 & echo $!; exec tail -f /dev/null'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    zombie = await new Promise<string>((resolve) =>
      parent.stdout?.once('data', (data: Buffer) => resolve(data.toString().trim())),
    )
    await until(
      () => readFileSync(`/proc/${parent.pid}/comm`, 'latin1') === 'tail\n',
      'its parent to become another program',
    )
    process.kill(Number(zombie))
    await until(() => readFileSync(`/proc/${zombie}/stat`, 'latin1').includes(') Z '), 'a zombie')
  })
  afterAll(() => parent.kill())

  test.each([
    ['templates', 'is gone', () => String(spawnSync('true').pid)],
    ['kernels', 'is gone', () => String(spawnSync('true').pid)],
    ['templates', 'is a zombie', () => zombie],
  ])('is counted by a prune, in %s of one that %s', async (kind, _state, pid) => {
    await world.pyro.environments.list()
    const name = `.left-${pid()}-0123abcd`
    const folder = join(cache, kind, name)
    mkdirSync(join(folder, 'inner'), { recursive: true })
    for (const file of ['memory', 'inner/file']) writeFileSync(join(folder, file), randomBytes(MIB))
    const { removed, freedBytes } = await world.pyro.environments.prune({ all: false })
    expect(removed.find((thing) => thing.name === name)?.bytes).toBeGreaterThanOrEqual(2 * MIB)
    expect(freedBytes).toBeGreaterThanOrEqual(2 * MIB)
    expect(existsSync(folder)).toBe(false)
  })
})

describe('a prune of everything', () => {
  test('leaves the kernel of machines as long as there are workspaces that start with it', async () => {
    const ws = await createOn(world, 'qemu')
    await world.pyro.environments.prune({ all: true })
    expect(names('templates')).toEqual([])
    expect(names('kernels')).toHaveLength(2)
    await world.restartEngine({ PYRO_DEBIAN_MIRROR: NOWHERE })
    await ws.reset()
    expect((await ws.exec('echo here', { check: true })).stdout).toBe('here\n')
    await ws.delete()
    const { removed } = await world.pyro.environments.prune({ all: true })
    expect(removed.map(({ kind }) => kind)).toContain('cache')
    expect(names('kernels')).toEqual([])
    await world.restartEngine({ PYRO_DEBIAN_MIRROR: '' })
  })
})
