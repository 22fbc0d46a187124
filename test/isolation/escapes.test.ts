import { execFileSync } from 'node:child_process'
import { afterAll, beforeAll, describe, expect } from 'vitest'
import { createOn } from '../support/driver-workspaces.ts'
import { onEveryDriver } from '../support/every-driver.ts'
import { attemptIn, hostProbe, outcomesOf, probeFolder, type Outcome } from '../support/probe.ts'
import { World } from '../support/world.ts'

const CONTROL_DEADLINE_MS = 120_000
const MEMORY_MIB = 512

/** Ways out that a host's root has: the control, in namespaces of its own, must succeed at each. */
const OPEN_TO_ROOT = [
  'core-pattern',
  'sysctl',
  'sys-write',
  'keys-file',
  'partitions',
  'interrupts',
  'timer-list',
  'kallsyms',
  'hardware',
  'block-devices-sys',
  'mount-tmpfs',
  'mount-proc',
  'mount-sysfs',
  'mount-cgroup',
  'mount-new-interface',
  'mount-bind',
  'release-agent',
  'pivot-root',
  'handle-open',
  'swapon',
  'mknod-kmsg',
  'mknod-loop',
  'mknod-loops',
  'mknod-tun',
  'mknod-fuse',
  'bpf',
  'perf',
  'userfaultfd',
  'syslog',
  'clock',
  'accounting',
  'hostname',
  'key-add',
  'raise-priority',
  'real-time',
  'unshare-user',
  'unshare-mount',
  'unshare-net',
  'socket-packet',
  'socket-audit',
  'socket-xfrm',
] as const

/** Ways out that not every host's root has, or that no host should be tried with: closed inside all the same. */
const MAY_BE_CLOSED = [
  'modprobe-path',
  'sysrq',
  'kcore',
  'kmsg-file',
  'modules-file',
  'firmware',
  'remount-proc-sys',
  'unmask',
  'io-uring',
  'module-load',
  'module-unload',
  'kexec',
  'personality',
  'raise-file-limit',
  'unshare-pid',
  'setns',
  'socket-vsock',
  'socket-alg',
  'configure-link',
  'remount-agent',
  'write-agent-file',
  'make-in-channel',
] as const

const OF_ITS_OWN_KERNEL = 'gVisor’s own, in user space: nothing of the host is behind it'

/** What succeeds inside, and why that is no way out. */
const NO_WAY_OUT: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  runc: {
    'socket-audit': 'belongs to a user namespace that may not audit',
    'socket-xfrm': 'belongs to a network namespace with nothing but loopback',
  },
  runsc: Object.fromEntries(
    [
      'sysctl',
      'sysrq',
      'hardware',
      'mknod-tun',
      'mknod-fuse',
      'syslog',
      'raise-priority',
      'unshare-user',
      'configure-link',
    ].map((attempt) => [attempt, OF_ITS_OWN_KERNEL]),
  ),
}

let world: World
beforeAll(async () => {
  world = await World.open()
})
afterAll(() => world[Symbol.asyncDispose]())

/** The same attempts by the host's root, where what they change is its own. */
const byRoot = (attempts: readonly string[]): Outcome[] =>
  outcomesOf(
    execFileSync(
      'unshare',
      ['--mount', '--ipc', '--uts', '--pid', '--fork', '--mount-proc', hostProbe(), 'try', ...attempts],
      { encoding: 'utf8', timeout: CONTROL_DEADLINE_MS },
    ),
  )

const succeeded = (outcomes: readonly Outcome[]): string[] =>
  outcomes.flatMap((outcome) => (outcome.succeeded ? [outcome.attempt] : []))

describe('what leads out of a sandbox', () => {
  onEveryDriver('isolation.escapes', async (driver) => {
    const open = succeeded(byRoot(OPEN_TO_ROOT))
    expect(OPEN_TO_ROOT.filter((attempt) => !open.includes(attempt))).toEqual([])
    await using ws = await createOn(world, driver, { memoryMib: MEMORY_MIB, seed: { path: probeFolder() } })
    const outcomes = await attemptIn(ws, [...OPEN_TO_ROOT, ...MAY_BE_CLOSED])
    expect(outcomes).toHaveLength(OPEN_TO_ROOT.length + MAY_BE_CLOSED.length)
    const harmless = NO_WAY_OUT[driver] ?? {}
    const out = outcomes.filter(({ attempt, succeeded: worked }) => worked && harmless[attempt] === undefined)
    expect(out).toEqual([])
    expect((await ws.exec(['true'])).exitCode).toBe(0)
  })
})
