import { afterAll, beforeAll, describe, expect } from 'vitest'
import type { TestedDriver } from '@pyro/driver-testkit'
import type { CreateOptions, Workspace } from '@pyro/sdk'
import { createOn } from '../support/driver-workspaces.ts'
import { onEveryDriver } from '../support/every-driver.ts'
import { ENVIRONMENT, until, World } from '../support/world.ts'

let world: World
beforeAll(async () => {
  world = await World.open()
})
afterAll(() => world[Symbol.asyncDispose]())

const create = (driver: TestedDriver, options: CreateOptions = {}): Promise<Workspace> =>
  createOn(world, driver, options)

describe('a workspace', () => {
  onEveryDriver('workspace.create', async (driver) => {
    const labels = { team: 'red', kind: 'test' }
    const env = { FROM_CREATE: 'yes', LANG: 'C' }
    await using ws = await create(driver, {
      name: `made-${driver}`,
      labels,
      env,
      vcpus: 1,
      memoryMib: 256,
      diskMib: 1024,
    })
    expect(ws.info).toMatchObject({
      workspaceId: expect.stringMatching(/^ws-[a-z2-7]{12}$/),
      name: `made-${driver}`,
      labels,
      environment: { name: ENVIRONMENT, digest: expect.stringMatching(/^sha256:[0-9a-f]{64}$/) },
      driver,
      emulated: driver === 'qemu',
      phase: 'running',
      generation: 1,
      vcpus: 1,
      memoryMib: 256,
      diskMib: 1024,
      network: 'off',
      env,
      seed: { mode: 'none', files: 0, bytes: 0 },
      expiresAt: null,
      resetCount: 0,
      lastResetAt: null,
      lastResetSnapshot: null,
      commandCount: 0,
      lastCommand: null,
      snapshots: ['baseline'],
      failure: null,
    })
    const seen = await ws.exec(
      'echo $FROM_CREATE $LANG; hostname; cat /etc/hostname; wc -c < /etc/machine-id; ls -A /workspace; id -u',
    )
    expect(seen.stdout).toBe(`yes C\nmade-${driver}\nmade-${driver}\n33\n0\n`)
    await expect(create(driver, { name: `made-${driver}` })).rejects.toMatchObject({ code: 'workspace.name-taken' })
    await using unnamed = await create(driver)
    expect(unnamed.name).toMatch(/^[a-z]/)
    const ids = await unnamed.exec(['cat', '/etc/machine-id'])
    expect(ids.stdout).not.toBe((await ws.exec(['cat', '/etc/machine-id'])).stdout)
  })

  onEveryDriver('workspace.if-absent', async (driver) => {
    const name = `once-${driver}`
    const ask = (): Promise<Workspace> => create(driver, { name, ifAbsent: true })
    const [ws, ...others] = (await Promise.all([ask(), ask(), ask()])).toSorted(
      (a, b) => Number(b.owned) - Number(a.owned),
    )
    expect(others.map(({ id, owned }) => ({ id, owned }))).toEqual(
      Array.from({ length: 2 }, () => ({ id: ws?.id, owned: false })),
    )
    if (ws === undefined) throw new Error('nothing was made')
    expect(ws.owned).toBe(true)
    await ws.exec('echo mine > file', { check: true })
    await ws.stop()
    const again = await create(driver, { name, ifAbsent: true })
    expect(again).toMatchObject({ id: ws.id, owned: false, info: { phase: 'running', created: false } })
    expect((await again.exec('cat file')).stdout).toBe('mine\n')
    await again[Symbol.asyncDispose]()
    expect((await ws.status()).phase).toBe('running')
    await ws.delete()
  })

  onEveryDriver('workspace.stop-start', async (driver) => {
    await using ws = await create(driver)
    await ws.exec(
      'echo kept | tee file /tmp/file /etc/kept > /dev/null; echo gone > /run/gone; echo gone > /dev/shm/gone',
      { check: true },
    )
    await ws.snapshots.create('one')
    const background = await ws.exec(['sleep', '86101'], { detach: true })
    const identity = 'cat /etc/machine-id; hostname'
    const before = await ws.exec(identity)
    const stopped = await ws.stop()
    expect(stopped).toMatchObject({ phase: 'stopped', failure: null, commandCount: 3, generation: 1 })
    expect((await world.sight()).lines.filter((line) => line.includes(`${ws.id}-g1`))).toEqual([])
    await expect(background.wait()).rejects.toMatchObject({
      code: 'command.interrupted',
      data: { interruptedBy: 'stop' },
    })
    expect(await ws.stop()).toMatchObject({ phase: 'stopped' })
    expect(await ws.start()).toMatchObject({
      phase: 'running',
      generation: 2,
      commandCount: 3,
      resetCount: 0,
      snapshots: ['baseline', 'one'],
    })
    expect(await ws.start()).toMatchObject({ phase: 'running', generation: 2 })
    expect((await ws.exec(identity)).stdout).toBe(before.stdout)
    const seen = await ws.exec(
      'cat file /tmp/file /etc/kept; ls /run/gone /dev/shm/gone; cat /proc/[0-9]*/cmdline | tr "\\0" " "',
    )
    expect(seen.stdout).toMatch(/^kept\nkept\nkept\n/)
    expect(seen.stdout).not.toContain('86101')
    expect(seen.stderr.match(/No such file/g)).toHaveLength(2)
    expect(seen.sequence).toBe(5)
    expect((await ws.commands.list()).map(({ sequence }) => sequence)).toEqual([1, 2, 3, 4, 5])
    await ws.stop()
    // What needs the sandbox starts it.
    expect((await ws.exec('cat file')).stdout).toBe('kept\n')
    expect(await ws.status()).toMatchObject({ phase: 'running', generation: 3 })
  })

  onEveryDriver('workspace.update', async (driver) => {
    await using ws = await create(driver, { name: `before-${driver}`, labels: { a: '1', b: '2' } })
    await using other = await create(driver, { name: `other-${driver}` })
    const updated = await ws.update({
      name: `after-${driver}`,
      labels: { b: '3', c: '4' },
      clearLabels: ['a'],
      ttlMs: 3_600_000,
    })
    expect(updated).toMatchObject({ workspaceId: ws.id, name: `after-${driver}`, labels: { b: '3', c: '4' } })
    expect(Date.parse(updated.expiresAt ?? '') - Date.now()).toBeGreaterThan(3_500_000)
    const longest = await ws.update({ ttlMs: 36_500 * 86_400_000 })
    expect(new Date(longest.expiresAt ?? '').getUTCFullYear()).toBeGreaterThan(new Date().getUTCFullYear() + 98)
    expect(await ws.update({ ttlMs: null })).toMatchObject({ expiresAt: null })
    expect((await world.pyro.workspaces.get(`after-${driver}`)).id).toBe(ws.id)
    await expect(world.pyro.workspaces.get(`before-${driver}`)).rejects.toMatchObject({ code: 'workspace.not-found' })
    await expect(world.pyro.workspaces.get(`aftr-${driver}`)).rejects.toMatchObject({
      code: 'workspace.not-found',
      hint: expect.stringContaining(`after-${driver}`),
    })
    await expect(ws.update({ name: other.name, labels: { d: '5' } })).rejects.toMatchObject({
      code: 'workspace.name-taken',
    })
    await expect(ws.update({ name: 'ws-abcdefghijkl' })).rejects.toMatchObject({ code: 'input.invalid' })
    for (const name of ['-x', 'a b', 'current', 'baseline']) {
      await expect(ws.update({ name })).rejects.toMatchObject({ code: 'input.invalid' })
    }
    expect(await ws.status()).toMatchObject({ name: `after-${driver}`, labels: { b: '3', c: '4' } })
    // The machine keeps the name it was made with.
    expect((await ws.exec('hostname')).stdout).toBe(`before-${driver}\n`)
  })

  onEveryDriver('workspace.expires', async (driver) => {
    const ws = await create(driver, { ttlMs: 86_400_000 })
    expect(ws.info.expiresAt).not.toBeNull()
    await ws.snapshots.create('one')
    const started = Promise.withResolvers<void>()
    const running = ws.exec(['sleep', '86111'], { onStarted: () => started.resolve() })
    running.catch(() => undefined)
    await Promise.race([started.promise, running])
    await ws.update({ ttlMs: 300 })
    await expect(running).rejects.toMatchObject({
      code: 'command.interrupted',
      hint: 'pyro workspace list',
      data: { interruptedBy: 'the end of its time to live' },
    })
    const gone = async (): Promise<boolean> =>
      !(await world.pyro.workspaces.list()).some(({ workspaceId }) => workspaceId === ws.id)
    await until(gone, 'the workspace to expire')
    await expect(ws.status()).rejects.toMatchObject({ code: 'workspace.not-found' })
    await until(async () => !(await world.sight()).lines.some((line) => line.includes(ws.id)), 'all that is left of it')
  })

  onEveryDriver('workspace.list', async (driver) => {
    const labels = { suite: `list-${driver}` }
    await using first = await create(driver, { labels: { ...labels, who: 'first' } })
    await using second = await create(driver, { labels: { ...labels, who: 'second' } })
    await using third = await create(driver, { labels })
    const order = async (): Promise<string[]> =>
      (await world.pyro.workspaces.list({ labels })).map(({ workspaceId }) => workspaceId)
    expect(await order()).toEqual([third.id, second.id, first.id])
    await second.exec('true')
    expect(await order()).toEqual([second.id, third.id, first.id])
    await first.snapshots.create('one')
    expect(await order()).toEqual([first.id, second.id, third.id])
    await third.files.write('file', 'x')
    expect(await order()).toEqual([third.id, first.id, second.id])
    await second.reset()
    expect(await order()).toEqual([second.id, third.id, first.id])
    // Looking is no activity.
    await first.files.read('/etc/hostname', { root: '/' })
    await first.diff()
    await first.status()
    expect(await order()).toEqual([second.id, third.id, first.id])
    const chosen = await world.pyro.workspaces.list({ workspaces: [first.name, second.id, first.id] })
    expect(chosen.map(({ workspaceId }) => workspaceId)).toEqual([second.id, first.id])
    expect(
      (await world.pyro.workspaces.list({ labels: { ...labels, who: 'second' } })).map(({ name }) => name),
    ).toEqual([second.name])
    await expect(world.pyro.workspaces.list({ workspaces: ['nobody'] })).rejects.toMatchObject({
      code: 'workspace.not-found',
    })
    const ids = await world.cli(['workspace', 'list', '--label', `suite=list-${driver}`, '--id-only'])
    expect(ids.stdout).toBe(`${second.id}\n${third.id}\n${first.id}\n`)
    const deleted = await world.pyro.workspaces.delete([], { all: true, labels: { ...labels, who: 'second' } })
    expect(deleted.deleted.map(({ name }) => name)).toEqual([second.name])
    expect(await order()).toEqual([third.id, first.id])
  })

  onEveryDriver('workspace.delete', async (driver) => {
    const ws = await create(driver)
    await ws.snapshots.create('one')
    const running = await ws.exec(['sleep', '86121'], { detach: true })
    const waiting = running.wait().then(
      () => 'ended',
      (error: unknown) => (error as { code: string }).code,
    )
    const result = await world.pyro.workspaces.delete([ws.name, 'no-such-one'])
    expect(result.deleted).toEqual([{ workspaceId: ws.id, name: ws.name, snapshots: 1 }])
    expect(result.errors).toMatchObject([{ workspace: 'no-such-one', code: 'workspace.not-found' }])
    expect(['command.interrupted', 'workspace.not-found']).toContain(await waiting)
    await expect(ws.exec('true')).rejects.toMatchObject({ code: 'workspace.not-found' })
    expect(await world.pyro.workspaces.delete([ws.id], { ifExists: true })).toEqual({ deleted: [], errors: [] })
    await ws.delete()
    await until(async () => !(await world.sight()).lines.some((line) => line.includes(ws.id)), 'all that is left of it')
  })

  onEveryDriver('workspace.run', async (driver) => {
    const before = await world.pyro.workspaces.list()
    const options = { environment: ENVIRONMENT, driver, memoryMib: 512 }
    const result = await world.pyro.run('cat; echo $A; exit 4', { ...options, stdin: 'typed\n', env: { A: 'b' } })
    expect(result).toMatchObject({ exitCode: 4, stdout: 'typed\nb\n', kept: false, state: 'exited' })
    expect((await world.pyro.workspaces.list()).length).toBe(before.length)
    const kept = await world.pyro.run(['touch', 'file'], { ...options, keep: true, name: `kept-${driver}` })
    expect(kept).toMatchObject({ exitCode: 0, kept: true })
    await using ws = await world.pyro.workspaces.get(kept.workspaceId)
    expect(ws.name).toBe(`kept-${driver}`)
    expect((await ws.exec('ls')).stdout).toBe('file\n')
    await ws.delete()
    await expect(world.pyro.run(['true'], { ...options, environment: 'debian:99' })).rejects.toMatchObject({
      code: 'environment.not-found',
    })
    const cli = await world.cli(
      ['run', ENVIRONMENT, '--memory-mib', '512', '--timeout', '20s', '--', 'echo out; echo err >&2; exit 7'].toSpliced(
        2,
        0,
        ...driverFlag(driver),
      ),
    )
    expect(cli).toEqual({ code: 7, stdout: 'out\n', stderr: 'err\n' })
    expect((await world.pyro.workspaces.list()).length).toBe(before.length)
  })

  onEveryDriver('workspace.apart', async (driver) => {
    await using one = await create(driver)
    await using two = await create(driver)
    await one.exec('echo secret > /workspace/mine; echo secret > /tmp/mine; echo secret > /dev/shm/mine', {
      check: true,
    })
    const listener = await one.exec(
      [
        'perl',
        '-MIO::Socket::INET',
        '-e',
        '$s = IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1:7777"); $| = 1; print "up\\n"; while ($c = $s->accept) { print $c "hello\\n"; close $c }',
      ],
      { detach: true },
    )
    for await (const text of listener.stdout) if (text.includes('up')) break
    const dial = [
      'perl',
      '-MIO::Socket::INET',
      '-e',
      '$c = IO::Socket::INET->new("127.0.0.1:7777") or die "refused"; print <$c>',
    ]
    expect((await one.exec(dial)).stdout).toBe('hello\n')
    expect(await two.exec(dial)).toMatchObject({ stdout: '', stderr: expect.stringContaining('refused') })
    const seen = await two.exec('ls -A /workspace /tmp /dev/shm; cat /proc/[0-9]*/cmdline | tr "\\0" " "; hostname')
    expect(seen.stdout).not.toContain('mine')
    expect(seen.stdout).not.toContain('perl -MIO')
    expect(seen.stdout).not.toContain(one.name)
    await two.exec('kill -KILL -1')
    expect((await one.exec(dial)).stdout).toBe('hello\n')
    expect((await two.exec('echo lives')).stdout).toBe('lives\n')
  })

  onEveryDriver('workspace.network-off', async (driver) => {
    await using ws = await create(driver)
    const devices = await ws.exec('tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d " "')
    expect(devices.stdout).toBe('lo\n')
    const loop =
      'use IO::Socket::INET; $s = IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1:0") or die; $c = IO::Socket::INET->new("127.0.0.1:" . $s->sockport) or die; print "connected\\n"'
    expect((await ws.exec(['perl', '-e', loop])).stdout).toBe('connected\n')
    const out =
      'use IO::Socket::INET; for $a ("192.0.2.1:80", "169.254.169.254:80", "10.0.0.1:22") { print IO::Socket::INET->new(PeerAddr => $a, Timeout => 3) ? "out" : "no:$!", "\\n" }'
    expect((await ws.exec(['perl', '-e', out])).stdout).toMatch(/^(no:.*(unreachable|No route).*\n){3}$/)
    expect((await ws.exec(['getent', 'hosts', 'example.org'])).exitCode).toBe(2)
    expect((await ws.exec(['getent', 'hosts', 'localhost'])).stdout).toMatch(/^(127\.0\.0\.1|::1)\s+localhost/)
  })
})

/** `fake` is in no help text: it is asked for through the library alone. */
const driverFlag = (driver: TestedDriver): string[] => (driver === 'fake' ? ['--driver', 'fake'] : ['--driver', driver])
