import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import type { TestedDriver } from '@pyro/driver-testkit'
import type { CreateOptions, Workspace } from '@pyro/sdk'
import { afterAll, beforeAll, describe, expect } from 'vitest'
import { createOn } from '../support/driver-workspaces.ts'
import { onEveryDriver } from '../support/every-driver.ts'
import { removeVolume } from '../support/host-volume.ts'
import { rejectionOf } from '../support/rejection.ts'
import { until, World } from '../support/world.ts'

/** Host processes are looked for by what they were called: `sleep` for a time that no other run on this host has. */
const SLEEP = `8639${process.pid}`
const BACKGROUND = ['sleep', `${SLEEP}9`]

let world: World
beforeAll(async () => {
  world = await World.open()
})
afterAll(() => world[Symbol.asyncDispose]())

const create = (driver: TestedDriver, options: CreateOptions = {}): Promise<Workspace> =>
  createOn(world, driver, options)

describe('reset', () => {
  onEveryDriver('reset.baseline-new-machine', async (driver) => {
    await using ws = await create(driver, { name: `base-${driver}`, labels: { kept: 'yes' } })
    const identity = 'hostname; cat /etc/hostname /etc/hosts /etc/machine-id'
    const before = await ws.exec(identity)
    await ws.snapshots.create('kept')
    const snapshots = await ws.snapshots.list()
    await ws.exec(
      [
        'set -e',
        'echo changed >> /etc/hosts; echo other > /etc/hostname; echo 0 > /etc/machine-id; rm /etc/fstab',
        'rm /usr/bin/env; cp /bin/true /usr/bin/added; chmod 700 /usr/share; mkdir /usr/local/new',
        'echo left > /tmp/left; mkdir -m 700 /tmp/folder; touch /run/left /dev/shm/left /root/left',
        'echo left > /workspace/left',
      ].join('\n'),
      { check: true },
    )
    const background = await ws.exec(BACKGROUND, { detach: true })
    await ws.exec(`setsid sh -c 'trap "" TERM HUP INT; while :; do sleep ${SLEEP}8; done' >/dev/null 2>&1 &`, {
      check: true,
    })
    const bootId = bootIdOf(ws)

    const reset = await ws.reset()

    expect(reset).toMatchObject({
      workspaceId: ws.id,
      snapshot: 'baseline',
      generation: 2,
      savedAs: null,
      started: false,
    })
    expect(reset.cleared.commands).toBe(4)
    expect(reset.cleared.runningCommands).toEqual([{ commandId: background.commandId, command: BACKGROUND.join(' ') }])
    const { info: created } = ws
    const status = await ws.status()
    expect(status).toMatchObject({
      workspaceId: created.workspaceId,
      name: created.name,
      labels: { kept: 'yes' },
      environment: created.environment,
      isolation: created.isolation,
      phase: 'running',
      generation: 2,
      resetCount: 1,
      lastResetSnapshot: 'baseline',
      commandCount: 0,
      lastCommand: null,
      snapshots: ['baseline', 'kept'],
      createdAt: created.createdAt,
      failure: null,
    })
    expect(Date.parse(status.lastResetAt ?? '')).toBeGreaterThan(Date.parse(created.createdAt))
    expect((await ws.snapshots.list()).map(({ name, kind, createdAt }) => ({ name, kind, createdAt }))).toEqual(
      snapshots.map(({ name, kind, createdAt }) => ({ name, kind, createdAt })),
    )
    expect(await ws.commands.list()).toEqual([])
    await expect(ws.commands.wait(background.commandId)).rejects.toMatchObject({
      code: 'command.not-found',
      message: expect.stringContaining(`cleared by the reset at ${status.lastResetAt}`),
    })
    expect(bootIdOf(ws)).not.toBe(bootId)
    const diff = await ws.diff({ root: '/' })
    expect(diff.result).toMatchObject({ clean: true, entries: [], patchBytes: 0 })
    for (const root of ['/workspace', '/etc', '/usr', '/tmp']) {
      expect((await ws.diff({ root })).result).toMatchObject({ clean: true, entries: [] })
    }
    const after = await ws.exec(identity)
    expect(after.stdout).toBe(before.stdout)
    expect(after.sequence).toBe(1)
    const left = await ws.exec(
      'ls -d /tmp/* /run/left /dev/shm/left /root/left /workspace/* /usr/bin/added 2>/dev/null',
    )
    expect(left.stdout).toBe('')
    const processes = await ws.exec('cat /proc/[0-9]*/cmdline')
    expect(processes.stdout).not.toContain('sleep')
    await nothingOfGeneration(ws, 1)
  })

  onEveryDriver('reset.snapshot-can-be-gone-back-to-again', async (driver) => {
    await using ws = await create(driver)
    await ws.exec('echo one > /workspace/state', { check: true })
    await ws.snapshots.create('one')
    await ws.exec('echo two > /workspace/state', { check: true })
    await ws.snapshots.create('two')
    for (const name of ['one', 'two', 'one', 'baseline', 'two']) {
      await ws.exec('echo in between > /workspace/state; touch /etc/between', { check: true })
      await ws.reset({ snapshot: name })
      const { stdout } = await ws.exec('cat /workspace/state 2>/dev/null || echo baseline; ls /etc/between 2>/dev/null')
      expect(stdout.trim()).toBe(name)
      expect(currentOf(await ws.snapshots.list())).toEqual([name])
    }
    expect(await ws.status()).toMatchObject({ resetCount: 5, lastResetSnapshot: 'two', generation: 6 })
  })

  onEveryDriver('reset.stopped-workspace', async (driver) => {
    await using ws = await create(driver)
    await ws.exec('echo mine > /workspace/file', { check: true })
    await ws.stop()
    const reset = await ws.reset()
    expect(reset).toMatchObject({ started: true, cleared: { commands: 1, runningCommands: [] } })
    expect(await ws.status()).toMatchObject({ phase: 'running', resetCount: 1, failure: null })
    expect((await ws.exec('ls /workspace')).stdout).toBe('')
  })

  onEveryDriver('reset.failed-workspace', async (driver) => {
    await using ws = await create(driver)
    await ws.exec('echo kept > /workspace/file', { check: true })
    await ws.snapshots.create('kept')
    await ws.stop()
    await removeVolume(world, ws, 'g1')
    await expect(ws.start()).rejects.toMatchObject({ code: 'workspace.lost' })
    expect(await ws.status()).toMatchObject({ phase: 'failed', failure: { code: 'workspace.lost' } })
    await expect(ws.exec('true')).rejects.toMatchObject({ code: 'workspace.wrong-phase' })
    const reset = await ws.reset({ snapshot: 'kept' })
    expect(reset.started).toBe(true)
    expect(await ws.status()).toMatchObject({ phase: 'running', failure: null })
    expect((await ws.exec('cat /workspace/file')).stdout).toBe('kept\n')
  })

  onEveryDriver('reset.save-as', async (driver) => {
    await using ws = await create(driver)
    await ws.exec('echo broken > /workspace/file; echo more > /etc/more', { check: true })
    const reset = await ws.reset({ saveAs: 'broken' })
    expect(reset.savedAs).toBe('broken')
    expect((await ws.exec('ls /workspace /etc/more')).exitCode).not.toBe(0)
    expect((await ws.status()).snapshots).toEqual(['baseline', 'broken'])
    await ws.reset({ snapshot: 'broken' })
    expect((await ws.exec('cat /workspace/file /etc/more')).stdout).toBe('broken\nmore\n')
    await ws.exec('echo again > /workspace/file', { check: true })
    await expect(ws.reset({ saveAs: 'broken' })).rejects.toMatchObject({ code: 'snapshot.exists' })
    await expect(ws.reset({ saveAs: 'baseline' })).rejects.toMatchObject({ code: 'snapshot.reserved' })
    await expect(ws.reset({ snapshot: 'brokn' })).rejects.toMatchObject({
      code: 'snapshot.not-found',
      hint: expect.stringContaining('broken'),
    })
    expect((await ws.exec('cat /workspace/file')).stdout).toBe('again\n')
    expect(await ws.status()).toMatchObject({ resetCount: 2, generation: 3, snapshots: ['baseline', 'broken'] })
  })

  onEveryDriver('reset.queued', async (driver) => {
    await using ws = await create(driver)
    await ws.exec('echo one > /workspace/file', { check: true })
    await ws.snapshots.create('one')
    const [first, second] = await Promise.all([ws.reset(), ws.reset({ snapshot: 'one' })])
    expect([first.generation, second.generation]).toEqual([2, 3])
    expect(await ws.status()).toMatchObject({
      phase: 'running',
      generation: 3,
      resetCount: 2,
      lastResetSnapshot: 'one',
    })
    expect((await ws.exec('cat /workspace/file')).stdout).toBe('one\n')
    await nothingOfGeneration(ws, 1)
    await nothingOfGeneration(ws, 2)
  })

  onEveryDriver('reset.interrupts-commands', async (driver) => {
    await using ws = await create(driver)
    const printed = Promise.withResolvers<void>()
    const running = ws.exec(`echo begun; sleep ${SLEEP}7`, { onStdout: () => printed.resolve() })
    const ended = rejectionOf(running)
    await printed.promise
    const detached = await ws.exec(['sleep', `${SLEEP}6`], { detach: true })
    const waiting = rejectionOf(detached.wait())
    const reset = await ws.reset()
    expect(reset.cleared.runningCommands.map(({ command }) => command)).toEqual([
      `echo begun; sleep ${SLEEP}7`,
      `sleep ${SLEEP}6`,
    ])
    expect(await ended).toMatchObject({
      code: 'command.interrupted',
      message: expect.stringContaining('reset'),
      data: { interruptedBy: 'reset', command: { state: 'interrupted', stdout: 'begun\n', exitCode: null } },
    })
    expect(await waiting).toMatchObject({ code: 'command.interrupted', data: { interruptedBy: 'reset' } })
    await nothingOfGeneration(ws, 1)
    expect((await ws.exec('echo usable')).stdout).toBe('usable\n')
  })
})

const currentOf = (snapshots: Awaited<ReturnType<Workspace['snapshots']['list']>>): string[] =>
  snapshots.filter(({ current }) => current).map(({ name }) => name)

/** The agent's own: the kernel's may be the host's. */
const bootIdOf = (ws: Workspace): string => {
  using db = new DatabaseSync(join(world.home, 'state.db'), { readOnly: true })
  const row = db
    .prepare(
      "SELECT json_extract(record, '$.details.bootId') AS id FROM sandboxes WHERE workspace_id = ? AND state = 'running'",
    )
    .get(ws.id)
  expect(row?.['id']).toMatch(/^[0-9a-f-]{36}$/)
  return String(row?.['id'])
}

/** From outside: no process, control group, mount or socket of that sandbox, nor what was started in it. */
const nothingOfGeneration = async (ws: Workspace, generation: number): Promise<void> => {
  const sandbox = `${ws.id}-g${generation}`
  const left = async (): Promise<string[]> => [
    ...(await world.sight()).lines.filter((line) => line.includes(sandbox)),
    ...hostCommandLines().filter((line) => new RegExp(`^sleep ${SLEEP}\\d$`).test(line)),
  ]
  await until(
    async () => (await left()).length === 0,
    `the end of ${sandbox}, of which there is: ${(await left()).join(', ')}`,
  )
}

const hostCommandLines = (): string[] =>
  readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name)) return []
    try {
      return [readFileSync(`/proc/${name}/cmdline`, 'latin1').replaceAll('\0', ' ').trim()]
    } catch (error) {
      if (['ENOENT', 'ESRCH'].includes(String((error as NodeJS.ErrnoException).code))) return []
      throw error
    }
  })
