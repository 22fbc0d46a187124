import { randomBytes } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Workspace } from '@pyro/sdk'
import { afterAll, beforeAll, describe, expect } from 'vitest'
import { createOn } from '../support/driver-workspaces.ts'
import { onEveryDriver } from '../support/every-driver.ts'
import { attemptIn, PROBE, probeFolder } from '../support/probe.ts'
import { World } from '../support/world.ts'

const MEMORY_MIB = 512
/** First id that sandboxes may have on the host. */
const ID_BASE = 0x40000000
const DEVICES = ['full', 'fuse', 'net/tun', 'null', 'ptmx', 'random', 'tty', 'urandom', 'zero'].map(
  (name) => `/dev/${name}`,
)
/** Of a machine: it has them, the host does not lend them. */
const OF_MACHINES =
  /^\/dev\/(?:console|cpu_dma_latency|hpet|hwrng|kmsg|mem|rtc0|snapshot|tty\w+|userfaultfd|vcs\w*|vd[ab]|vga_arbiter|vport0p1|vsock)$/
/** Where the channel and the agent are shown; nothing else of ours is. */
const OURS = ['/run/pyro/agent', '/run/pyro/channel']

interface Surroundings {
  readonly devices: readonly string[]
  readonly mounts: readonly { readonly point: string; readonly type: string; readonly options: string }[]
  readonly processes: number
  readonly cgroup: string
  readonly environment: readonly string[]
}

let world: World
beforeAll(async () => {
  world = await World.open()
})
afterAll(() => world[Symbol.asyncDispose]())

const probed = (driver: Parameters<typeof createOn>[1]): Promise<Workspace> =>
  createOn(world, driver, { memoryMib: MEMORY_MIB, seed: { path: probeFolder() } })

describe('what a sandbox shows of where it is', () => {
  onEveryDriver('isolation.host-invisible', async (driver) => {
    await using ws = await probed(driver)
    const { stdout } = await ws.exec([PROBE, 'look'], { check: true })
    // The control: what is looked for is there to be seen on the host.
    expect(readFileSync('/proc/self/mountinfo', 'utf8')).toContain(world.runtimeDir)
    for (const place of [world.home, world.runtimeDir, world.folder]) expect(stdout).not.toContain(place)
    const seen = JSON.parse(stdout) as Surroundings
    const known = (device: string): boolean =>
      DEVICES.includes(device) || (driver === 'qemu' && OF_MACHINES.test(device))
    expect(seen.devices.filter((device) => !known(device))).toEqual([])
    const programs = await ws.exec('cat /proc/[0-9]*/cmdline | tr "\\0" " "', { check: true })
    expect(programs.stdout).not.toContain('pyro-engine')
    // A kernel of its own has threads of its own, which run no program.
    if (driver !== 'qemu') expect(seen.processes).toBeLessThan(5)
    expect(seen.cgroup).not.toContain(ws.id)
    expect(
      seen.environment.filter((entry) => entry.startsWith('PYRO_') && !entry.startsWith('PYRO_COMMAND_ID=')),
    ).toEqual([])
    const disks = seen.mounts.filter(({ type }) => ['ext4', 'xfs', 'btrfs', '9p', 'overlay'].includes(type))
    for (const { point, options } of disks) {
      if (OURS.includes(point)) expect(options).toMatch(/^ro\b/)
      else expect(['/', '/tmp']).toContain(point)
    }
    const network = await ws.exec('cat /proc/net/dev', { check: true })
    const links = network.stdout.split('\n').flatMap((line) => /^\s*(\w+):/.exec(line)?.[1] ?? [])
    expect(links).toEqual(['lo'])
    expect(
      (await attemptIn(ws, ['connect-tcp=127.0.0.1:1', 'connect-tcp=10.0.0.1:1'])).filter((one) => one.succeeded),
    ).toEqual([])
  })

  onEveryDriver('isolation.unprivileged-outside', async (driver) => {
    await using ws = await probed(driver)
    expect((await ws.exec(['id', '-u'])).stdout).toBe('0\n')
    expect((await ws.exec(['id', '-u'], { user: '4242' })).stdout).toBe('4242\n')
    const sleeper = await ws.exec(['sleep', '600'], { detach: true })
    const { processes } = await world.sight()
    const inside = processes.filter(
      ({ what }) => what.includes(ws.id) && !what.includes(' monitor ') && !what.startsWith('runsc-gofer'),
    )
    expect(inside.length).toBeGreaterThan(0)
    for (const { pid } of inside) {
      const status = readFileSync(`/proc/${pid}/status`, 'utf8')
      expect(Number(/^Uid:\s+(\d+)/m.exec(status)?.[1])).toBeGreaterThanOrEqual(ID_BASE)
    }
    await sleeper.kill('KILL')
  })

  onEveryDriver('isolation.neighbours', async (driver) => {
    const mark = `mark-${randomBytes(6).toString('hex')}`
    await using one = await probed(driver)
    await using other = await probed(driver)
    const listen = `use IO::Socket::UNIX; my $s = IO::Socket::UNIX->new(Local => "\\0${mark}", Listen => 5) or die $!;
      print "up\\n"; $| = 1; while (my $c = $s->accept) { close $c }`
    await one.exec(['perl', '-e', `$| = 1; ${listen}`], { detach: true })
    await one.exec(`echo secret > /dev/shm/${mark}; echo secret > /tmp/${mark}`, { check: true })
    const attempts = [`process-named=${mark}`, `connect-unix=@${mark}`]
    const works = async (ws: Workspace): Promise<boolean[]> =>
      (await attemptIn(ws, attempts)).map(({ succeeded }) => succeeded)
    await expect.poll(() => works(one), { timeout: 60_000 }).toEqual([true, true])
    expect(await works(other)).toEqual([false, false])
    const files = await other.exec(`ls /dev/shm/${mark} /tmp/${mark}`)
    expect(files.exitCode).not.toBe(0)
  })

  onEveryDriver('isolation.races', async (driver) => {
    const host = mkdtempSync(join(tmpdir(), 'pyro-race-'))
    try {
      const secret = `secret-${randomBytes(12).toString('hex')}`
      writeFileSync(join(host, 'file'), secret)
      // The control: on the host the link that the workspace makes leads to the secret.
      symlinkSync(host, join(host, 'link'))
      expect(readFileSync(join(host, 'link', 'file'), 'utf8')).toBe(secret)
      await using ws = await createOn(world, driver, { memoryMib: MEMORY_MIB })
      const flip = `cd /workspace; mkdir -p real; echo mine > real/file; mkdir -p spare
        while :; do rm -rf at; ln -s ${host} at; rm -f at; cp -r real at; mv at gone; ln -s ../../../../../..${host} at; rm -rf gone; done`
      await ws.exec(['sh', '-c', flip], { detach: true })
      const seen: string[] = []
      const keep = (bytes: Uint8Array): void => void seen.push(Buffer.from(bytes).toString('latin1'))
      const ends: unknown[] = []
      const end = (call: Promise<unknown>): Promise<unknown> =>
        call.then(
          () => ends.push('answered'),
          (error: unknown) => ends.push((error as { code?: string }).code),
        )
      for (let round = 0; round < 12; round++) {
        await Promise.all([
          end(ws.export('/workspace/at/file', { output: keep, format: 'tar' })),
          end(ws.export('/workspace', { output: keep, format: 'tar' })),
          end(ws.diff().then(({ patch }) => keep(patch))),
          end(ws.files.read('at/file').then(({ text }) => seen.push(text))),
          end(ws.files.write('at/new', 'from the host')),
        ])
      }
      expect(seen.join('\n')).toContain('mine')
      expect(seen.join('\n')).not.toContain(secret)
      expect(ends).not.toContain('internal')
      expect(ends).toContain('answered')
      // Nothing was written through a link either.
      expect(readFileSync(join(host, 'file'), 'utf8')).toBe(secret)
      expect(() => readFileSync(join(host, 'new'))).toThrow('ENOENT')
    } finally {
      rmSync(host, { recursive: true, force: true })
    }
  })
})
