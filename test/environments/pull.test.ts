import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { copyFileSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { EXIT, type Progress } from '@pyro/protocol'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ENVIRONMENT, ENVIRONMENT_CACHE, until, World } from '../support/world.ts'
import { inventory, packagesInCache } from './inventory.ts'

/** For a build from nothing on a busy host. */
const timeout = 10 * 60_000
const REFUSED_MS = 120_000
const ARCHIVE_BYTES = 1024 * 1024 * 1024
/** Nothing listens there. */
const CLOSED_MIRROR = 'http://127.0.0.1:9/debian'

let world: World
beforeAll(async () => {
  // No archive of an earlier run: everything here is built.
  world = await World.open({ env: { PYRO_ENVIRONMENT_CACHE: '' } })
})
afterAll(() => world[Symbol.asyncDispose]())

/** Processes that hold a build of this home: one for each. */
const builds = async (): Promise<number[]> => {
  const { processes } = await world.sight()
  return processes.filter(({ what }) => what.startsWith('/usr/bin/unshare ')).map(({ pid }) => pid)
}

const expectNothingButPackages = async (): Promise<void> => {
  await until(
    async () => !(await world.sight()).lines.some((line) => line.includes('mmdebstrap')),
    'the end of the build',
  )
  expect(inventory(world)).toEqual([])
}

/** A pull that has come to a step. */
const pullUpTo = async (step: string, signal?: AbortSignal) => {
  const reached = Promise.withResolvers<void>()
  const seen: Progress[] = []
  const onProgress = (progress: Progress): void => {
    seen.push(progress)
    if (progress.step.startsWith(step)) reached.resolve()
  }
  const pull = world.pyro.environments.pull(ENVIRONMENT, { signal, onProgress })
  // Whoever called asserts how it ends.
  pull.catch(() => undefined)
  await Promise.race([reached.promise, pull])
  return { pull, seen }
}

/** Archives as another home would have left them, each cut in half. */
const damagedCache = (): string => {
  const folder = join(world.folder, 'cache')
  mkdirSync(folder)
  for (const name of readdirSync(ENVIRONMENT_CACHE).filter((file) => file.startsWith('debian_'))) {
    const from = join(ENVIRONMENT_CACHE, name)
    if (name.endsWith('.json')) copyFileSync(from, join(folder, name))
    else writeFileSync(join(folder, name), readFileSync(from).subarray(0, statSync(from).size / 2))
  }
  return folder
}

describe('a pull', { timeout }, () => {
  test('that is cancelled in the middle ends its build and leaves nothing but packages', async () => {
    const cancel = new AbortController()
    const { pull } = await pullUpTo('installing packages', cancel.signal)
    expect(await builds()).toHaveLength(1)
    cancel.abort()
    await expect(pull).rejects.toMatchObject({ code: 'request.cancelled' })
    await expectNothingButPackages()
    expect(packagesInCache(world).length).toBeGreaterThan(50)
  })

  test('from a mirror that refuses says why, in time, and keeps the packages', async () => {
    const packages = packagesInCache(world)
    await world.restartEngine({ PYRO_DEBIAN_MIRROR: CLOSED_MIRROR })
    const began = performance.now()
    const { code, stderr } = await world.cli(['env', 'pull', ENVIRONMENT])
    expect(performance.now() - began).toBeLessThan(REFUSED_MS)
    expect(code).toBe(EXIT.other)
    expect(stderr).toMatch(/127\.0\.0\.1:9.*Connection refused.*nothing was installed \(environment\.pull-failed\)/)
    await expectNothingButPackages()
    expect(packagesInCache(world)).toEqual(packages)
  })

  test('is one build for all who ask, beside a damaged archive and through the death of the engine', async () => {
    const marker = `${randomBytes(8).toString('hex')}.invalid`
    const cache = damagedCache()
    await world.restartEngine({ PYRO_DEBIAN_MIRROR: '', PYRO_ENVIRONMENT_CACHE: cache, no_proxy: marker })
    const { pull, seen } = await pullUpTo('installing packages')
    const other = world.cli(['env', 'pull', ENVIRONMENT, '--json'])
    const [first = 0] = await builds()
    await world.killEngine()
    let seenBuilds: number[] = []
    await until(
      async () => (seenBuilds = await builds()).length > 0 && !seenBuilds.includes(first),
      'the build of the next engine alone',
      timeout,
    )
    // The first build died with its engine, and both callers wait for the second one.
    expect(seenBuilds).toHaveLength(1)
    const pulled = await pull
    const { code, stdout } = await other
    expect(pulled).toMatchObject({ pulled: true, installed: true })
    expect({ code, digest: (JSON.parse(stdout) as { digest: string }).digest }).toEqual({
      code: 0,
      digest: pulled.digest,
    })
    expect(seen.map(({ step }) => step.split(' ')[0])).toEqual(
      expect.arrayContaining(['copying', 'reading', 'fetching', 'installing', 'packing', 'compressing']),
    )
    for (const { done, total } of seen) expect(done ?? 0).toBeLessThanOrEqual(total ?? Number.POSITIVE_INFINITY)
    expect(inventory(world)).toHaveLength(2)
    expectNoTraceOfTheHost(marker)
    await world.pyro.environments.remove(ENVIRONMENT)
    const copied = await pullUpTo('copying')
    expect(await copied.pull).toMatchObject({ digest: pulled.digest })
    expect(copied.seen.map(({ step }) => step)).not.toContain(`building ${ENVIRONMENT}`)
  })
})

/** What is built holds what its packages brought, and says nothing of where it was built. */
const expectNoTraceOfTheHost = (marker: string): void => {
  const folder = readdirSync(join(world.home, 'environments')).find((name) => name !== 'names.json')
  const archive = join(world.home, 'environments', folder ?? '', 'rootfs.tar.zst')
  const plain = execFileSync('zstd', ['-dc', archive], { maxBuffer: ARCHIVE_BYTES })
  const names = execFileSync('tar', ['-t'], { input: plain, encoding: 'utf8', maxBuffer: ARCHIVE_BYTES }).split('\n')
  expect(names).toContain('./usr/bin/apt')
  const traces =
    /^\.\/etc\/(hostname|resolv\.conf|machine-id|apt\/(auth\.conf$|auth\.conf\.d\/.|apt\.conf\.d\/99))|^\.\/var\/log\/.*\.log|\.deb$|_Packages/
  expect(names.filter((name) => traces.test(name))).toEqual([])
  const sources = execFileSync('tar', ['-xO', './etc/apt/sources.list.d/debian.sources'], {
    input: plain,
    encoding: 'utf8',
  })
  expect(sources.match(/^URIs: .*$/gm)).toEqual([
    'URIs: http://deb.debian.org/debian',
    'URIs: http://deb.debian.org/debian-security',
  ])
  // Variables of the engine, and paths of this host.
  expect([marker, world.folder].filter((text) => plain.includes(text))).toEqual([])
}
