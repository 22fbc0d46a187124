import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { DatabaseSync } from 'node:sqlite'
import type { ResultOf } from '@pyro/protocol'
import { describe, expect, test } from 'vitest'
import { availableDrivers } from '../support/every-driver.ts'
import { ENVIRONMENT, World } from '../support/world.ts'
import { asNobody, said, withoutPrograms } from './provocations.ts'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
/** Room for an environment, its volume and some clones, all of them whole copies. */
const TMPFS_BYTES = 6 * 1024 * 1024 * 1024

/** The main job: nothing of it may depend on where the home lies. Gives the drivers that did it. */
const doneOn = async (world: World): Promise<readonly string[]> => {
  const done: string[] = []
  for (const driver of availableDrivers()) {
    await using ws = await world.pyro.workspaces.create({ environment: ENVIRONMENT, driver })
    await ws.exec('echo one > state; touch /etc/one', { check: true })
    await ws.snapshots.create('one')
    await ws.exec('rm state; echo two > two; rm -r /etc/apt', { check: true })
    await ws.reset({ snapshot: 'one' })
    expect((await ws.exec('cat state; ls two /etc/one /etc/apt/sources.list.d')).stdout).toBe(
      'one\n/etc/one\n\n/etc/apt/sources.list.d:\ndebian.sources\n',
    )
    const { result } = await ws.diff()
    expect(result.entries.map(({ path, status }) => [path, status])).toEqual([['state', 'added']])
    await ws.stop()
    await world.restartEngine()
    await ws.reset()
    expect((await ws.diff({ root: '/' })).result.entries).toEqual([])
    done.push(driver)
  }
  return done
}

describe('a home', () => {
  test('works below folders that only root may enter, with a very long path', async () => {
    const within = mkdtempSync(join(tmpdir(), 'pyro-deep-'))
    const deep = join(within, 'd'.repeat(200), 'e'.repeat(200), 'ä b"c')
    mkdirSync(deep, { recursive: true, mode: 0o700 })
    try {
      await using world = await World.open({ within: deep })
      expect(await doneOn(world)).toEqual(availableDrivers())
      const tooLong = join(world.folder, 'f'.repeat(200), 'home')
      const error = await said(world, ['workspace', 'list'], { env: { PYRO_HOME: tooLong } })
      expect(error).toMatchObject({ code: 'input.invalid', exit: 2, hint: 'name a shorter one with PYRO_HOME' })
    } finally {
      rmSync(within, { recursive: true })
    }
  })

  test.each(['btrfs', 'copy'] as const)(
    'works on a filesystem without reflinks, with the disk store %s',
    { timeout: 240_000 },
    async (disk) => {
      const within = mkdtempSync(join(tmpdir(), 'pyro-tmpfs-'))
      execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${TMPFS_BYTES}`, 'tmpfs', within])
      try {
        await using world = await World.open({ within, disk })
        expect(await doneOn(world)).toEqual(availableDrivers())
      } finally {
        execFileSync('umount', [within])
        rmSync(within, { recursive: true })
      }
    },
  )

  test('written by a newer version is left as it is', async () => {
    await using world = await World.open()
    const home = join(world.folder, 'newer')
    mkdirSync(home)
    const path = join(home, 'state.db')
    const database = new DatabaseSync(path)
    database.exec('CREATE TABLE of_the_future (x); PRAGMA user_version = 999')
    database.close()
    const before = readFileSync(path)
    const error = await said(world, ['workspace', 'create', ENVIRONMENT], { env: { PYRO_HOME: home } })
    expect(error).toMatchObject({ code: 'state.too-new', exit: 3 })
    expect(error.message).toContain('nothing was touched')
    expect(readFileSync(path).equals(before)).toBe(true)
  })
})

describe('a user who is not root', () => {
  test('is told the command that does it', async () => {
    await using world = await World.open()
    for (const line of ['workspace list', `workspace create ${ENVIRONMENT}`, 'doctor', 'daemon start']) {
      const error = await asNobody(world, line.split(' '))
      expect(error).toMatchObject({ code: 'host.needs-root', exit: 6 })
      expect(error.hint).toMatch(new RegExp(`^sudo .* ${line}`))
    }
  })
})

/** An engine that says it is of another version. */
const engineOfVersion = (world: World, version: string): string => {
  const engine = join(world.folder, 'other-engine')
  cpSync(join(ROOT, 'packages', 'engine', 'src'), join(engine, 'src'), { recursive: true })
  const manifest = JSON.parse(readFileSync(join(ROOT, 'packages', 'engine', 'package.json'), 'utf8')) as object
  writeFileSync(join(engine, 'package.json'), JSON.stringify({ ...manifest, version }))
  symlinkSync(join(ROOT, 'node_modules'), join(world.folder, 'node_modules'))
  return join(engine, 'src', 'main.ts')
}

describe('an engine of another version', () => {
  test('is named, and daemon restart replaces it without losing a running command', async () => {
    await using world = await World.open()
    await world.pyro.environments.pull(ENVIRONMENT)
    const ws = await world.pyro.workspaces.create({ environment: ENVIRONMENT, driver: 'runc', name: 'fix', keep: true })
    const { commandId } = await ws.exec('sleep 3; echo done', { detach: true })
    await world.killEngine()
    const agent = join(ROOT, 'packages', 'engine', 'agent', `linux-${process.arch}`, 'pyro-agent')
    const other = { PYRO_ENGINE: engineOfVersion(world, '9.9.9'), PYRO_AGENT: agent }
    expect((await world.cli(['daemon', 'start'], { env: other })).code).toBe(0)
    const error = await said(world, ['workspace', 'list'])
    expect(error).toMatchObject({ code: 'engine.version-mismatch', exit: 3 })
    expect(error.message).toContain('9.9.9')
    expect(error.hint).toContain('pyro daemon restart')
    expect((await world.cli(['daemon', 'restart'])).code).toBe(0)
    const waited = await world.cli(['workspace', 'command', 'wait', 'fix', commandId, '--json'])
    expect(JSON.parse(waited.stdout)).toMatchObject({ exitCode: 0, stdout: 'done\n' })
  })
})

describe('a host that lacks programs', () => {
  test('of the strongest isolation: create refuses, naming the fix and the weaker way; doctor says what works', async () => {
    await using world = await World.open()
    await world.restartEngine({ PATH: withoutPrograms(world, ['runsc']) })
    const error = await said(world, ['workspace', 'create', ENVIRONMENT])
    expect(error).toMatchObject({ code: 'isolation.unavailable', exit: 6 })
    expect(error.hint).toMatch(/apt-get install.*runsc.*--driver runc/)
    expect(await world.pyro.workspaces.list()).toEqual([])
    const doctor = await world.cli(['doctor'])
    expect(doctor.code).toBe(0)
    expect(doctor.stdout).toMatch(/MISS {2}driver-runsc: .*\n {6}fix: apt-get install/)
    const weaker = await world.cli(['run', ENVIRONMENT, '--driver', 'runc', '--', 'echo', 'weaker'])
    expect(weaker).toMatchObject({ code: 0, stdout: 'weaker\n' })
  })

  test('of any isolation: doctor ends with 6', async () => {
    await using world = await World.open()
    await world.restartEngine({ PATH: withoutPrograms(world, ['runsc', 'runc']) })
    const doctor = await world.cli(['doctor', '--json'])
    const { ok, capabilities } = JSON.parse(doctor.stdout) as ResultOf<'doctor'>
    expect({ code: doctor.code, ok }).toEqual({ code: 6, ok: false })
    for (const id of ['runsc', 'runc']) {
      expect(capabilities.find((capability) => capability.id.endsWith(id))).toMatchObject({ ok: false })
    }
  })
})
