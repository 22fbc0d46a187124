import { execFileSync, spawnSync } from 'node:child_process'
import {
  appendFileSync,
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { DatabaseSync } from 'node:sqlite'
import type { ResultOf } from '@pyro/protocol'
import { socketOfHome } from '@pyro/sdk'
import { describe, expect, test } from 'vitest'
import { availableDrivers } from '../support/every-driver.ts'
import { powerOff } from '../fault/outside.ts'
import { SmallHost } from '../support/small-host.ts'
import { ENVIRONMENT, World } from '../support/world.ts'
import { asNobody, NO_KVM, said, withoutPrograms } from './provocations.ts'
import { runLine } from './shell.ts'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
/** Room for an environment, its volume and some clones, all of them whole copies. */
const TMPFS_BYTES = 6 * 1024 * 1024 * 1024
const FAILING_HOST_MIB = 1024
const FULL_HOST_MIB = 32

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

/** Paths below a folder that a user without any right finds, a line each. */
const nobodyFinds = (folder: string, ...what: readonly string[]): string => {
  const user = ['--reuid', '65534', '--regid', '65534', '--clear-groups']
  const { stdout } = spawnSync('setpriv', [...user, 'find', folder, ...what], { encoding: 'utf8' })
  return stdout
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

  test('that becomes read-only is named by every command, ends no engine and loses nothing', async () => {
    await using host = await SmallHost.make(FAILING_HOST_MIB)
    await using world = await World.open({ within: host.folder, disk: 'copy' })
    const ws = await world.pyro.workspaces.create({
      environment: ENVIRONMENT,
      driver: 'fake',
      name: 'kept',
      keep: true,
    })
    await ws.exec('echo kept > state', { check: true })
    const running = await ws.exec('sleep 2; echo over', { detach: true })
    const pid = await world.enginePid()
    execFileSync('sync', ['--file-system', world.home])
    await host.failWrites()
    try {
      const readOnly = {
        code: 'path.unwritable',
        message: expect.stringContaining(`${world.home} cannot be written: its filesystem is read-only`) as string,
        hint: expect.stringContaining('remount,rw') as string,
      }
      for (const line of ['update kept --label a=b', 'snapshot create kept one', 'exec kept -- true', 'reset kept'])
        expect(await said(world, ['workspace', ...line.split(' ')])).toMatchObject(readOnly)
      expect((await world.pyro.workspaces.list()).map(({ name, phase }) => [name, phase])).toEqual([
        ['kept', 'running'],
      ])
      expect(await running.wait({ timeoutMs: 30_000 })).toMatchObject({ exitCode: 0 })
      const doctor = await world.cli(['doctor'])
      expect(doctor.code).toBe(6)
      expect(doctor.stdout).toMatch(/home: .*read-only\n {6}fix: .*remount,rw/)
      expect(await world.enginePid()).toBe(pid)

      await world.killEngine()
      for (const line of ['workspace list', 'doctor', 'daemon start', 'workspace exec kept -- true'])
        expect(await said(world, line.split(' '))).toMatchObject(readOnly)
    } finally {
      await powerOff(world)
      await host.repair()
    }
    expect((await ws.exec('cat state', { check: true })).stdout).toBe('kept\n')
  })

  test('without room says so, and its log begins anew when there is some', async () => {
    await using host = await SmallHost.make(FULL_HOST_MIB)
    await using world = await World.open({ within: host.folder, disk: 'copy' })
    const log = join(world.home, 'logs', 'engine.log')
    const full = { code: 'disk.full', exit: 5, hint: expect.stringContaining('free space') as string }
    await world.pyro.engine.shutdown()
    // With some blocks the log takes why an engine ends, with one only the begin of it.
    for (const leftBlocks of [0, 1, 3, 5]) {
      await using _filled = await host.fill(leftBlocks)
      for (const home of [world.home, join(host.folder, 'new')])
        expect(await said(world, ['workspace', 'list'], { env: { PYRO_HOME: home } })).toMatchObject(full)
    }
    appendFileSync(log, '{"level":30,"msg":"cut')
    await world.pyro.engine.start()
    const lines = readFileSync(log, 'utf8').trimEnd().split('\n')
    expect(lines.at(-2)).toBe('{"level":30,"msg":"cut')
    expect(JSON.parse(lines.at(-1) ?? '')).toMatchObject({ msg: 'ready' })
  })

  test('that others may enter lets them read nothing, also what an earlier engine left readable', async () => {
    await using world = await World.open()
    const readable = (home: string): string => nobodyFinds(home, '-type', 'f', '-readable')
    for (const disk of ['btrfs', 'copy']) {
      const home = join(world.folder, disk)
      const env = { PYRO_HOME: home, PYRO_DISK: disk }
      mkdirSync(home)
      for (const path of [world.folder, home]) chmodSync(path, 0o755)
      writeFileSync(join(home, 'state.db'), '', { mode: 0o644 })
      mkdirSync(join(home, 'logs'), { mode: 0o755 })
      const run = async (...args: readonly string[]): Promise<void> => {
        expect(await world.cli(args, { env })).toMatchObject({ code: 0 })
      }
      try {
        await run('workspace', 'create', ENVIRONMENT, '--driver', 'runc', '--name', 'own', '--env', 'TOKEN=hidden')
        await run('workspace', 'exec', 'own', '--', 'sh', '-c', 'env; echo mine > file')
        await run('workspace', 'snapshot', 'create', 'own', 'one')
        expect(nobodyFinds(home, '-name', 'state.db*').split('\n')).toHaveLength(4)
        expect(readable(home)).toBe('')
      } finally {
        await run('workspace', 'delete', 'own', '--if-exists')
        await run('daemon', 'stop')
      }
      expect(readable(home)).toBe('')
      expect(statSync(home).mode & 0o777).toBe(0o755)
    }
  })

  test('that is moved, replaced or removed under its engine is changed no more, until it is back', async () => {
    await using world = await World.open()
    const lost = async (line: string): Promise<void> => {
      const error = await said(world, line.split(' '))
      expect(error).toMatchObject({ code: 'state.lost', hint: expect.stringContaining('pyro daemon stop') as string })
      expect(error.message).toContain(world.home)
    }
    const failsDoctor = async (): Promise<void> => {
      const { code, stdout } = await world.cli(['doctor'])
      expect({ code, stdout }).toMatchObject({
        code: 6,
        stdout: expect.stringMatching(/home: the home .* while/) as string,
      })
    }
    const elsewhere = join(world.folder, 'elsewhere')
    {
      await using ws = await world.pyro.workspaces.create({ environment: ENVIRONMENT, driver: 'runc', name: 'kept' })
      const running = await ws.exec('while [ ! -e go ]; do sleep 0.1; done; echo over', { detach: true })
      await ws.exec('(sleep 2; touch go) & true', { check: true })
      renameSync(world.home, elsewhere)
      for (const line of ['exec kept -- true', 'snapshot create kept one', 'reset kept', 'delete kept', 'stop kept'])
        await lost(`workspace ${line}`)
      await lost(`run ${ENVIRONMENT} --driver runc -- true`)
      await failsDoctor()
      expect((await world.pyro.workspaces.list()).map(({ name, phase }) => [name, phase])).toEqual([
        ['kept', 'running'],
      ])
      expect(await running.wait({ timeoutMs: 30_000 })).toMatchObject({ exitCode: 0, stdout: 'over\n' })
      expect(existsSync(world.home)).toBe(false)
      cpSync(elsewhere, world.home, { recursive: true, filter: (path) => !path.endsWith('pool.btrfs') })
      await lost('workspace update kept --label a=b')
      await failsDoctor()
      rmSync(world.home, { recursive: true })
      renameSync(elsewhere, world.home)
      expect((await ws.exec('ls', { check: true })).stdout).toBe('go\n')
      expect((await world.cli(['doctor'])).code).toBe(0)
    }
    rmSync(world.home, { recursive: true })
    await lost(`workspace create ${ENVIRONMENT} --driver runc`)
    expect(await world.cli(['daemon', 'stop'])).toMatchObject({ code: 0 })
    expect(existsSync(world.home)).toBe(false)
  })

  test('that an empty variable names is the usual one, for the command line as for its engine', async () => {
    await using world = await World.open()
    const cwd = mkdtempSync(join(world.folder, 'cwd-'))
    const homeOf = async (env: Record<string, string>): Promise<unknown> => {
      const { stdout } = await world.cli(['daemon', 'status', '--json'], { cwd, env })
      return (JSON.parse(stdout) as ResultOf<'engine.status'>).home
    }
    expect(await homeOf({ PYRO_HOME: '' })).toBe('/var/lib/pyro')
    const env = { PYRO_HOME: join(world.folder, 'other'), PYRO_RUNTIME_DIR: '', PYRO_DISK: '' }
    const socket = socketOfHome(env.PYRO_HOME, {})
    try {
      expect(await world.cli(['daemon', 'start'], { cwd, env })).toMatchObject({ code: 0 })
      expect((await world.cli(['daemon', 'status'], { cwd, env })).stdout).toContain(socket)
      expect(await world.cli(['daemon', 'stop'], { cwd, env })).toMatchObject({ code: 0 })
    } finally {
      rmSync(dirname(socket), { recursive: true, force: true })
    }
    expect(readdirSync(cwd)).toEqual([])
  })

  test.each([
    ['PYRO_HOME', 'rel/home'],
    ['PYRO_RUNTIME_DIR', 'rel'],
    ['PYRO_RUNTIME_DIR', `/run/${'r'.repeat(100)}`],
    ['PYRO_LOG_LEVEL', 'loud'],
    ['PYRO_MACHINE_TEMPLATES', 'maybe'],
    ['PYRO_POOL_STEP_MIB', '0'],
  ])('is not opened with %s=%s', async (name, value) => {
    await using world = await World.open()
    const cwd = mkdtempSync(join(world.folder, 'cwd-'))
    const home = join(world.folder, 'other')
    const env = { PYRO_HOME: home, [name]: value }
    for (const line of ['workspace list', 'daemon start']) {
      const error = await said(world, line.split(' '), { cwd, env })
      expect(error).toMatchObject({ code: 'input.invalid', exit: 2 })
      expect(error.message).toMatch(new RegExp(`^${name} .*${value}; nothing was started$`))
      expect(error.hint).toContain(name)
    }
    expect(await world.cli(['__complete', '--', 'workspace', 'status', ''], { cwd, env })).toMatchObject({ code: 0 })
    expect(readdirSync(cwd)).toEqual([])
    expect(existsSync(join(home, 'state.db'))).toBe(false)
  })

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
  test('has a home of their own, also where XDG_DATA_HOME is empty', () => {
    const home = JSON.stringify(new URL('../../packages/sdk/src/engine/home.ts', import.meta.url).href)
    const script = `const { resolveHome } = await import(${home}); process.setuid(65534); console.log(resolveHome())`
    const env = { PATH: process.env['PATH'], HOME: '/nowhere/of-theirs', XDG_DATA_HOME: '' }
    const said = execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8', env })
    expect(said).toBe('/nowhere/of-theirs/.local/share/pyro\n')
  })

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

describe('an engine that does not answer', () => {
  test('is named with its pid and the way out, and is not waited for without end', async () => {
    await using world = await World.open()
    const pid = (await world.enginePid()) ?? 0
    process.kill(pid, 'SIGSTOP')
    try {
      const status = await said(world, ['daemon', 'status'])
      expect(status).toMatchObject({ code: 'engine.unreachable', exit: 7 })
      const who = `an engine (pid ${pid}) has ${world.pyro.client.socket} and did not answer`
      expect(status.message).toContain(who)
      expect(status.hint).toContain(`kill -KILL ${pid}`)
      const start = await said(world, ['daemon', 'start'])
      expect(start).toMatchObject({ code: 'engine.unreachable', exit: 7 })
      expect(start.message).toContain(who)
      expect(start.hint).toContain(`kill -KILL ${pid}`)
      expect((await world.cli(['version'])).stdout).toContain('engine does not answer')
      expect(await said(world, ['daemon', 'stop'])).toMatchObject({ code: 'engine.unreachable', exit: 7 })
      // Before it gives up by itself.
      const cancelled = await runLine(world, 'timeout --preserve-status --signal INT 6 pyro daemon stop --json')
      expect(JSON.parse(cancelled.stdout)).toMatchObject({ error: { code: 'request.cancelled' } })
      expect(cancelled.code).toBe(130)
    } finally {
      process.kill(pid, 'SIGCONT')
    }
    expect((await world.cli(['daemon', 'stop'])).stdout).toBe('engine ended; 0 sandboxes live on\n')
    expect(await world.cli(['daemon', 'stop'])).toMatchObject({ code: 0, stdout: 'no engine runs\n' })
    expect(await world.cli(['daemon', 'status'])).toMatchObject({ code: 7 })
  })
})

describe('an engine that is slow to start', () => {
  test('is left by Ctrl-C, which says so', async () => {
    await using world = await World.open()
    const engine = join(world.folder, 'slow.cjs')
    const pid = join(world.folder, 'pid')
    writeFileSync(
      engine,
      `require('fs').writeFileSync(${JSON.stringify(pid)}, String(process.pid)); setTimeout(() => 0, 60000)`,
    )
    const env = { PYRO_HOME: join(world.folder, 'slow'), PYRO_ENGINE: engine }
    const line = `pyro daemon start & until test -s ${pid}; do sleep 0.05; done; kill -INT $!; wait $!`
    const { code, stderr } = await runLine(world, line, { env })
    process.kill(Number(readFileSync(pid, 'utf8')), 'SIGKILL')
    expect({ code, stderr }).toEqual({
      code: 130,
      stderr: expect.stringMatching(
        /^error: starting the engine was cancelled .*\(request.cancelled\)\n {2}hint: pyro daemon status\n$/,
      ),
    })
  })
})

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
    await world.restartEngine({ PATH: withoutPrograms(world, ['runsc']), PYRO_KVM_DEVICE: NO_KVM })
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
    await world.restartEngine({ PATH: withoutPrograms(world, ['qemu-system-x86_64', 'runsc', 'runc']) })
    const doctor = await world.cli(['doctor', '--json'])
    const { ok, capabilities } = JSON.parse(doctor.stdout) as ResultOf<'doctor'>
    expect({ code: doctor.code, ok }).toEqual({ code: 6, ok: false })
    for (const id of ['firecracker', 'qemu', 'runsc', 'runc']) {
      expect(capabilities.find((capability) => capability.id.endsWith(id))).toMatchObject({ ok: false })
    }
  })
})
