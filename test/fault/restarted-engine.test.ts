import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { copyFileSync, existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Pyro, socketOfHome, type Workspace } from '@pyro/sdk'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { said } from '../cli/provocations.ts'
import { runLine } from '../cli/shell.ts'
import { onEveryDriver } from '../support/every-driver.ts'
import { clearHost } from '../support/host-clearing.ts'
import { volatileFolder } from '../support/host-run.ts'
import { tarOf } from '../support/tar.ts'
import { ENVIRONMENT, isRunning, until, World } from '../support/world.ts'
import { expectInOrder } from './account.ts'
import { markedWorkspace, markOf, SMALL } from './killed-engine.ts'

const ENGINE = fileURLToPath(new URL('../../packages/engine/src/main.ts', import.meta.url))
const MIB = 1024 * 1024
/** A start that waits would take fifteen seconds. */
const SOON_MS = 10_000
/** The last ones are still starting when the first one answers. */
const START_AFTER_MS = [0, 100, 200, 250, 300]

let world: World
beforeAll(async () => {
  world = await World.open()
})
afterAll(() => world[Symbol.asyncDispose]())

/** What `seq 1 last` prints, as length and digest. */
const sequence = (last: number): { bytes: number; sha256: string } => {
  const hash = createHash('sha256')
  let bytes = 0
  const step = 10_000
  for (let first = 1; first <= last; first += step) {
    const count = Math.min(step, last - first + 1)
    const text = `${Array.from({ length: count }, (_, index) => first + index).join('\n')}\n`
    bytes += text.length
    hash.update(text)
  }
  return { bytes, sha256: hash.digest('hex') }
}

describe('output across engines', () => {
  onEveryDriver('restarted.output', async (driver) => {
    await using ws = await world.pyro.workspaces.create({ environment: ENVIRONMENT, driver, ...SMALL })
    // More than a log keeps: what is beyond it, only the agent still has.
    const last = 9_200_000
    const expected = sequence(last)
    expect(expected.bytes).toBeGreaterThan(64 * MIB)
    const deaths = [5 * MIB, 30 * MIB, 66 * MIB]
    const hash = createHash('sha256')
    let bytes = 0
    const gaps: number[] = []
    const result = await ws.exec(`seq 1 ${last}; exit 5`, {
      onGap: (gap) => void gaps.push(gap),
      onStdoutBytes: async (chunk) => {
        hash.update(chunk)
        bytes += chunk.length
        if (bytes < (deaths[0] ?? Infinity)) return
        deaths.shift()
        await world.killEngine()
      },
    })
    expect({ bytes, sha256: hash.digest('hex'), gaps }).toEqual({ ...expected, gaps: [] })
    expect(deaths).toEqual([])
    expect(result).toMatchObject({ exitCode: 5, stdoutBytes: expected.bytes, truncated: true })
    expect(result.stdout.startsWith('1\n2\n3\n')).toBe(true)
    expect(result.stdout.endsWith(`\n${last}\n`)).toBe(true)
  })

  onEveryDriver('restarted.unread-output', async (driver) => {
    await using ws = await world.pyro.workspaces.create({ environment: ENVIRONMENT, driver, ...SMALL })
    const last = 1_000_000
    const { bytes } = sequence(last)
    const command = await ws.exec(`seq 1 ${last}; sleep 1; echo end`, { detach: true })
    await world.killEngine()
    const result = await command.wait()
    expect(result).toMatchObject({ exitCode: 0, stdoutBytes: bytes + 'end\n'.length })
    const hash = createHash('sha256')
    for await (const { bytes: chunk } of command.output()) hash.update(chunk)
    const whole = Array.from({ length: last }, (_, index) => index + 1).join('\n')
    expect(hash.digest('hex')).toBe(createHash('sha256').update(`${whole}\nend\n`).digest('hex'))
  })
})

/** What of a record does not go on by itself. */
const constant = async (ws: Workspace): Promise<unknown> => {
  const { diskBytes: _diskBytes, lastCommand: _lastCommand, ...record } = await ws.status()
  return record
}

describe('daemon restart', () => {
  onEveryDriver('restarted.daemon', async (driver) => {
    await using ws = await markedWorkspace(world, driver)
    // None of them ends before the engine was replaced; two print before and after it.
    const replaced = 'until [ -e /run/replaced ]; do sleep 0.1; done'
    const detached = await ws.exec(`${replaced}; exit 6`, { detach: true })
    const lines = `seq 1 10; ${replaced}; for i in $(seq 11 20); do echo $i; sleep 0.1; done; exit 7`
    const attached = world.cli(['workspace', 'exec', ws.id, '--', lines])
    const waiting = ws.exec(lines)
    await until(async () => (await ws.commands.list({ running: true })).length === 3, 'three commands')
    const before = await constant(ws)
    const pid = await world.enginePid()
    expect(await world.cli(['daemon', 'restart'])).toMatchObject({ code: 0 })
    expect(await world.enginePid()).not.toBe(pid)
    expect(await constant(ws)).toEqual(before)
    await ws.exec(['touch', '/run/replaced'], { check: true })
    const printed = Array.from({ length: 20 }, (_, index) => `${index + 1}\n`).join('')
    expect(await attached).toEqual({ code: 7, stdout: printed, stderr: '' })
    expect(await waiting).toMatchObject({ exitCode: 7, stdout: printed })
    expect(await detached.wait()).toMatchObject({ exitCode: 6 })
    expect(await markOf(ws)).toBe('now')
    await ws.reset({ snapshot: 'kept' })
    expect(await markOf(ws)).toBe('kept')
    await expectInOrder(world)
  })
})

describe('engines that start at once', () => {
  test('one of them wins and the others leave; every caller is served', async () => {
    await world.killEngine()
    const ours = Array.from({ length: 3 }, () => spawn(process.execPath, [ENGINE], { stdio: 'ignore' }))
    const callers = Array.from({ length: 3 }, () => world.cli(['workspace', 'list', '--json']))
    expect(
      (await Promise.all(callers)).map(({ code, stdout }) => ({ code, list: JSON.parse(stdout) as unknown })),
    ).toEqual(callers.map(() => ({ code: 0, list: { workspaces: [] } })))
    const engines = async (): Promise<number> =>
      (await world.sight()).processes.filter(({ what }) => what.startsWith('pyro-engine')).length
    await until(async () => (await engines()) === 1, 'one engine to be left')
    const pid = await world.enginePid()
    // At most one of ours may be the winner: a caller may have been first.
    const others = ours.filter((child) => child.pid !== pid)
    const haveLeft = (): boolean => others.every(({ exitCode, signalCode }) => (exitCode ?? signalCode) !== null)
    await until(haveLeft, 'the others to leave')
    expect(others.map(({ exitCode }) => exitCode)).toEqual(others.map(() => 0))
    expect(await world.enginePid()).toBe(pid)
  })
})

describe('an engine of the home in another runtime folder', () => {
  test('is named at once, with the variable, and goes on', async () => {
    const pid = (await world.enginePid()) ?? 0
    const other = volatileFolder('other-')
    const began = Date.now()
    const error = await said(world, ['workspace', 'list'], { env: { PYRO_RUNTIME_DIR: other } })
    expect(error).toMatchObject({
      code: 'engine.unreachable',
      exit: 7,
      message: expect.stringContaining(`listens on ${socketOfHome(world.home)}, not on ${other}`) as string,
      hint: expect.stringContaining(`PYRO_RUNTIME_DIR=${world.runtimeDir}`) as string,
    })
    expect(Date.now() - began).toBeLessThan(SOON_MS)
    expect(await world.enginePid()).toBe(pid)
    // The one that follows a killed one takes over wherever it listens.
    await world.killEngine()
    world.env['PYRO_RUNTIME_DIR'] = other
    expect(await world.cli(['workspace', 'list', '--quiet'])).toMatchObject({ code: 0 })
    expect(await world.cli(['daemon', 'stop'])).toMatchObject({ code: 0 })
    world.env['PYRO_RUNTIME_DIR'] = world.runtimeDir
    await clearHost({ folders: [other], hashes: [] })
    expect(await world.enginePid()).toBeNull()
    await world.pyro.engine.start()
    await expectInOrder(world)
  })
})

describe('an engine whose socket was removed', () => {
  test('leaves, and the next one takes over what runs', async () => {
    await using ws = await world.pyro.workspaces.create({ environment: ENVIRONMENT, driver: 'fake', ...SMALL })
    const command = await ws.exec('sleep 3; echo done', { detach: true })
    const pid = (await world.enginePid()) ?? 0
    rmSync(socketOfHome(world.home))
    await until(() => !isRunning(pid), 'the engine to leave')
    expect((await command.wait()).stdout).toBe('done\n')
    expect(await world.enginePid()).not.toBe(pid)
    await expectInOrder(world)
  })
})

describe('a home that is copied', () => {
  onEveryDriver('restarted.copied-home', async (driver) => {
    await using ws = await markedWorkspace(world, driver)
    const command = await ws.exec('sleep 5; echo done', { detach: true })
    // The pool may not be mounted twice: of a copy, the state is what speaks of sandboxes.
    const copy = join(world.folder, `copy-${driver}`)
    mkdirSync(copy)
    for (const name of ['state.db', 'state.db-wal', 'state.db-shm']) {
      if (existsSync(join(world.home, name))) copyFileSync(join(world.home, name), join(copy, name))
    }
    await using other = await Pyro.connect({ home: copy })
    const stopped = async (): Promise<boolean> => (await other.workspaces.get(ws.id)).info.phase === 'stopped'
    await until(stopped, 'the workspace of the copy to stop')
    expect((await other.workspaces.get(ws.id)).info.failure).toMatchObject({
      code: 'sandbox.unreachable',
      message: expect.stringContaining('copied'),
    })
    expect(await other.workspaces.delete([ws.id])).toMatchObject({ errors: [] })
    await other.engine.shutdown()
    expect(await command.wait()).toMatchObject({ exitCode: 0, stdout: 'done\n' })
    expect(await markOf(ws)).toBe('now')
    await expectInOrder(world)
    rmSync(copy, { recursive: true })
  })
})

test('what can be read only once reaches an engine that has to be started first', async () => {
  await using ws = await world.pyro.workspaces.create({ environment: ENVIRONMENT, driver: 'runc', ...SMALL })
  writeFileSync(join(world.folder, 'root.tar'), tarOf([{ name: 'bin/tool', mode: 0o755, content: 'x' }]))
  const lines = [`echo typed | pyro ws exec -i ${ws.id} -- cat`, 'cat root.tar | pyro env import once --json -']
  const ends = []
  for (const line of lines) {
    await world.pyro.engine.shutdown()
    ends.push(await runLine(world, line))
  }
  expect(ends).toEqual([
    { code: 0, stdout: 'typed\n', stderr: '' },
    { code: 0, stdout: expect.stringContaining('"sizeBytes":1'), stderr: '' },
  ])
  await world.pyro.environments.remove('once')
})

test('of engines that are started at once none is there any more when the one that answered has ended', async () => {
  const { home } = world
  await world.pyro.engine.shutdown()
  const start = async (laterMs: number): Promise<void> => {
    await sleep(laterMs)
    await using pyro = Pyro.open({ home })
    await pyro.engine.start()
  }
  await Promise.all(START_AFTER_MS.map(start))
  await world.pyro.engine.shutdown()
  // Longer than an engine takes to start.
  await sleep(2_000)
  expect(await world.enginePid()).toBeNull()
})
