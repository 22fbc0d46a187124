import { execFile, spawn } from 'node:child_process'
import { copyFileSync, existsSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import type { Leak } from '@pyro/protocol'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { availableDrivers, onEveryDriver } from '../support/every-driver.ts'
import { ENVIRONMENT, isRunning, until, World } from '../support/world.ts'
import { NOBODY, PLANTS, plantVolume, volatileFolder, withState } from './planted-leaks.ts'

const run = promisify(execFile)

/** Between audits: they may not starve what they look at. */
const AUDIT_PAUSE_MS = 50
/** The work goes on until there were more of them. */
const AUDITS = 3

/** What the state knows of a workspace. */
const FORGOTTEN = [
  ['workspaces', 'id'],
  ['snapshots', 'workspace_id'],
  ['sandboxes', 'workspace_id'],
] as const

let world: World
beforeAll(async () => {
  world = await World.open({ disk: 'btrfs' })
})
afterAll(() => world[Symbol.asyncDispose]())

const leaks = async (): Promise<readonly Leak[]> => {
  const { leaks: found } = await world.pyro.doctor({ leaks: true })
  return found ?? []
}

const withoutDetail = (found: readonly Leak[] | null): Omit<Leak, 'detail'>[] =>
  (found ?? []).map(({ kind, id, workspaceId }) => ({ kind, id, workspaceId }))

describe('doctor --leaks finds exactly what was planted, and --fix releases it', () => {
  const planting = Object.entries(PLANTS).flatMap(([kind, plants]) =>
    Object.entries(plants).map(([what, plant]) => ({ what: `${kind}: ${what}`, plant })),
  )
  for (const { what, plant } of planting) {
    test(what, async () => {
      await using planted = await plant(world)
      expect(await planted.exists()).toBe(true)
      expect(withoutDetail(await leaks())).toEqual(planted.found)
      expect(await planted.exists()).toBe(true)
      const { leaks: left, fixed } = await world.pyro.doctor({ leaks: true, fix: true })
      expect(left).toEqual([])
      expect(withoutDetail(fixed)).toEqual(planted.found)
      expect(await planted.exists()).toBe(false)
      expect(await leaks()).toEqual([])
    })
  }
})

describe('a whole workspace that the state has forgotten', () => {
  onEveryDriver('leaks.forgotten-workspace', async (driver) => {
    const ws = await world.pyro.workspaces.create({ environment: ENVIRONMENT, driver })
    await ws.exec(['sleep', '600'], { detach: true })
    const before = await world.sight()
    await world.killEngine()
    withState(world, (db) => {
      for (const [table, column] of FORGOTTEN) db.prepare(`DELETE FROM ${table} WHERE ${column} = ?`).run(ws.id)
    })
    const monitor = before.processes.find(({ what }) => what.includes(' monitor ') && what.includes(ws.id))
    // The sandbox then has no parent that its name could be read from.
    process.kill(monitor?.pid ?? 0, 'SIGKILL')
    const { leaks: left, fixed } = await world.pyro.doctor({ leaks: true, fix: true })
    expect(left).toEqual([])
    expect(new Set(fixed?.map(({ workspaceId }) => workspaceId))).toEqual(new Set([ws.id]))
    expect([...new Set(fixed?.map(({ kind }) => kind))]).toEqual(
      expect.arrayContaining(['process', 'socket', 'folder', 'volume']),
    )
    const after = await world.sight()
    expect(after.lines.filter((line) => line.includes(ws.id))).toEqual([])
    expect(after.processes.length).toBeLessThan(before.processes.length)
  })
})

describe('what is not certain is reported and kept', () => {
  test('a snapshot whose volume is gone', async () => {
    await using ws = await world.pyro.workspaces.create({ environment: ENVIRONMENT, driver: 'fake' })
    await ws.snapshots.create('lost')
    const [row] = withState(world, (db) =>
      db.prepare('SELECT volume FROM snapshots WHERE workspace_id = ? AND name = ?').all(ws.id, 'lost'),
    )
    await run('btrfs', ['subvolume', 'delete', join(volatileFolder(world), 'volumes', String(row?.['volume']))])
    const { leaks: left, fixed } = await world.pyro.doctor({ leaks: true, fix: true })
    expect(withoutDetail(left)).toEqual([{ kind: 'record', id: `snapshot ${ws.id}/lost`, workspaceId: ws.id }])
    expect(fixed).toEqual([])
    expect((await ws.snapshots.list()).map(({ name }) => name)).toEqual(['baseline', 'lost'])
  })

  test('a disk that is older than the state of its home', async () => {
    await using planted = await plantVolume(world, `${NOBODY}.g7`, NOBODY)
    const pid = (await world.enginePid()) ?? 0
    await world.pyro.engine.shutdown()
    await until(() => !isRunning(pid), `the end of engine ${pid}`)
    // A copy is what a restored backup is: it began after the disk.
    const state = join(world.home, 'state.db')
    copyFileSync(state, `${state}.copy`)
    renameSync(`${state}.copy`, state)
    const { leaks: left, fixed } = await world.pyro.doctor({ leaks: true, fix: true })
    expect(withoutDetail(left)).toEqual(planted.found)
    expect(left?.[0]?.detail).toContain('older than the state of this home')
    expect(fixed).toEqual([])
    expect(await planted.exists()).toBe(true)
  })

  test('a mount that somebody laid over the volumes', async () => {
    const volumes = join(volatileFolder(world), 'volumes')
    await run('mount', ['--bind', volumes, volumes])
    try {
      const { leaks: left } = await world.pyro.doctor({ leaks: true, fix: true })
      expect(withoutDetail(left)).toEqual([{ kind: 'mount', id: volumes, workspaceId: null }])
    } finally {
      await run('umount', [volumes])
    }
  })

  test('a process that only has a path of ours among its arguments', async () => {
    const path = join(volatileFolder(world), 'sandboxes', `${NOBODY}-g7`, 'sandbox.log')
    const reader = spawn('sh', ['-c', 'read line', path], { stdio: ['pipe', 'ignore', 'ignore'] })
    try {
      const { leaks: left, fixed } = await world.pyro.doctor({ leaks: true, fix: true })
      expect(left).toMatchObject([{ kind: 'process', workspaceId: NOBODY }])
      expect(fixed).toEqual([])
      expect([reader.exitCode, reader.signalCode]).toEqual([null, null])
    } finally {
      reader.stdin.end()
      await new Promise((resolve) => reader.once('close', resolve))
    }
  })
})

describe('nothing that is in use is taken for a leak', () => {
  onEveryDriver('leaks.none-in-use', async (driver) => {
    await using ws = await world.pyro.workspaces.create({ environment: ENVIRONMENT, driver })
    expect(await leaks()).toEqual([])
    const command = await ws.exec('i=0; while [ $i -lt 2000 ]; do echo $i; i=$((i+1)); sleep 0.01; done', {
      detach: true,
    })
    expect(await leaks()).toEqual([])
    await ws.snapshots.create('green')
    await ws.diff({ root: '/' })
    expect(await leaks()).toEqual([])
    await command.kill()
    await ws.stop()
    expect(await leaks()).toEqual([])
    await ws.start()
    await ws.reset({ snapshot: 'green' })
    expect(await leaks()).toEqual([])
    await world.killEngine()
    expect(await leaks()).toEqual([])
    expect((await ws.exec('true')).exitCode).toBe(0)
    expect(await leaks()).toEqual([])
  })

  test('an engine that was killed while it tried its drivers leaves nothing behind the next try', async () => {
    const folder = volatileFolder(world)
    await world.pyro.doctor()
    const verdicts = readdirSync(folder).filter((name) => /^probe-\w+\.json$/.test(name))
    expect(verdicts.length).toBeGreaterThanOrEqual(availableDrivers().length)
    for (const name of verdicts) rmSync(join(folder, name))
    await world.restartEngine()
    const trying = world.pyro.doctor()
    await until(() => readdirSync(join(folder, 'sandboxes')).length > 0, 'the sandbox of a probe')
    const tried = readdirSync(join(folder, 'sandboxes'))
    await world.killEngine()
    await Promise.allSettled([trying])
    expect(await leaks()).toEqual([])
    expect(tried.filter((name) => existsSync(join(folder, 'sandboxes', name)))).toEqual([])
  })

  test('an audit in the middle of everything finds nothing, and fixes nothing', async () => {
    let over = false
    const audits: { leaks: unknown; fixed: unknown }[] = []
    const work = async (name: string): Promise<void> => {
      for (let round = 0; round < 2 || audits.length <= AUDITS; round++) {
        await using ws = await world.pyro.workspaces.create({ environment: ENVIRONMENT, driver: 'fake', name })
        await ws.exec('head -c 2000000 /dev/urandom >/tmp/noise; echo noise', { check: true })
        await ws.snapshots.create('one')
        await Promise.all([ws.diff({ root: '/' }), ws.exec('echo while looking')])
        await ws.reset({ snapshot: 'one' })
        await ws.stop()
      }
    }
    const audit = async (): Promise<void> => {
      while (!over) {
        audits.push(await world.pyro.doctor({ leaks: true, fix: true }))
        await sleep(AUDIT_PAUSE_MS)
      }
    }
    const auditing = audit()
    try {
      await Promise.all(['one', 'two'].map(work))
    } finally {
      over = true
      await auditing
    }
    expect(audits.length).toBeGreaterThan(AUDITS)
    for (const { leaks: left, fixed } of audits) expect({ left, fixed }).toEqual({ left: [], fixed: [] })
  })
})
