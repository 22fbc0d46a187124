import { lstat, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ID_COUNT } from '../../disk/disk-store.ts'
import type { SandboxSpec } from '../../driver/driver.ts'
import { errnoOf } from '../../process/identity.ts'
import { INSIDE } from '../monitored/sandbox-paths.ts'
import type { Bundle } from '../monitored/technology.ts'

const MIB = 1024 * 1024
const DEV_BYTES = 1 * MIB
/**
 * Memory that files hold outlives the command that wrote them. All of it together stays below what user commands may have, so
 * that there is always enough left to start the one that removes it.
 */
const RUN_PART = 8
const RUN_MOST_BYTES = 128 * MIB
const LOCK_MOST_BYTES = 5 * MIB
const LOCK_PART = 64
/** Terminals of all sandboxes come out of one pool of the kernel, 3072 by default. */
const MOST_TERMINALS = 128
/** gid of `tty` in Debian and all that descends from it. */
const TTY_GID = 5

/**
 * What root inside can do to its own sandbox: what container engines grant, without making device nodes. Enough for dpkg, su
 * and sudo; nothing of it counts outside of the user namespace.
 */
const CAPABILITIES = [
  'CAP_AUDIT_WRITE',
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_FOWNER',
  'CAP_FSETID',
  'CAP_KILL',
  'CAP_NET_BIND_SERVICE',
  'CAP_NET_RAW',
  'CAP_SETFCAP',
  'CAP_SETGID',
  'CAP_SETPCAP',
  'CAP_SETUID',
  'CAP_SYS_CHROOT',
] as const

/** Parts of /proc that tell of the host or reach its hardware. */
const MASKED = [
  '/proc/acpi',
  '/proc/asound',
  '/proc/diskstats',
  '/proc/interrupts',
  '/proc/kallsyms',
  '/proc/kcore',
  '/proc/keys',
  '/proc/key-users',
  '/proc/kmsg',
  '/proc/latency_stats',
  '/proc/modules',
  '/proc/mtrr',
  '/proc/partitions',
  '/proc/sched_debug',
  '/proc/scsi',
  '/proc/timer_list',
  '/proc/timer_stats',
] as const

/** All of /sys but what tells programs how many processors there are. */
async function maskedSys(): Promise<string[]> {
  const children = async (folder: string, kept: string): Promise<string[]> =>
    (await readdir(folder)).filter((name) => name !== kept).map((name) => join(folder, name))
  return [...(await children('/sys', 'devices')), ...(await children('/sys/devices', 'system'))]
}

const READ_ONLY = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'] as const

export interface Mount {
  readonly destination: string
  readonly type: string
  readonly source: string
  readonly options: readonly string[]
}

const mount = (destination: string, type: string, source: string, ...options: string[]): Mount => ({
  destination,
  type,
  source,
  options,
})

/** The mounts of every sandbox, in order; `belowRun` comes before what of ours is mounted there. */
export function standardMounts(spec: SandboxSpec, bundle: Bundle, belowRun: readonly Mount[] = []): Mount[] {
  const part = (divisor: number, most = Infinity): string =>
    `size=${Math.min(most, Math.floor((spec.memoryMib * MIB) / divisor))}`
  return [
    mount('/proc', 'proc', 'proc', 'nosuid', 'noexec', 'nodev'),
    mount('/dev', 'tmpfs', 'tmpfs', 'nosuid', 'strictatime', 'mode=755', `size=${DEV_BYTES}`),
    mount(
      '/dev/pts',
      'devpts',
      'devpts',
      'nosuid',
      'noexec',
      'newinstance',
      'ptmxmode=0666',
      'mode=0620',
      `gid=${TTY_GID}`,
      `max=${MOST_TERMINALS}`,
    ),
    mount('/dev/shm', 'tmpfs', 'shm', 'nosuid', 'noexec', 'nodev', 'mode=1777', part(2)),
    mount('/dev/mqueue', 'mqueue', 'mqueue', 'nosuid', 'noexec', 'nodev'),
    mount('/sys', 'sysfs', 'sysfs', 'nosuid', 'noexec', 'nodev', 'ro'),
    mount('/run', 'tmpfs', 'tmpfs', 'nosuid', 'nodev', 'mode=755', part(RUN_PART, RUN_MOST_BYTES)),
    mount('/run/lock', 'tmpfs', 'tmpfs', 'nosuid', 'nodev', 'noexec', 'mode=1777', part(LOCK_PART, LOCK_MOST_BYTES)),
    ...belowRun,
    mount(
      INSIDE.agent,
      'bind',
      bundle.ids.diskBase === null ? bundle.agentBinary : bundle.paths.agent,
      'bind',
      'ro',
      'nosuid',
      'nodev',
    ),
    mount(INSIDE.channel, 'bind', bundle.paths.channel, 'bind', 'ro', 'nosuid', 'nodev', 'noexec'),
  ]
}

/** The disk's own /tmp, for a runtime that would put a tmpfs over it. Never through what a guest may have put there instead. */
export async function diskTmp(spec: SandboxSpec): Promise<Mount[]> {
  const source = join(spec.volume.path, 'tmp')
  try {
    const isFolder = (await lstat(source)).isDirectory()
    return isFolder ? [mount('/tmp', 'bind', source, 'bind', 'rw', 'nosuid', 'nodev')] : []
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return []
    throw error
  }
}

const range = (idBase: number): readonly object[] => [{ containerID: 0, hostID: idBase, size: ID_COUNT }]

/** What both runtimes share of `config.json`. */
export async function standardConfig(spec: SandboxSpec, bundle: Bundle, mounts: readonly Mount[]): Promise<OciConfig> {
  const capabilities = [...CAPABILITIES]
  const mapsIds = bundle.ids.diskBase !== null
  return {
    ociVersion: '1.0.2',
    hostname: spec.hostname,
    root: { path: mapsIds ? bundle.paths.root : spec.volume.path, readonly: false },
    process: {
      terminal: false,
      user: { uid: 0, gid: 0 },
      cwd: '/',
      args: [INSIDE.agent, 'init'],
      env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'LANG=C.UTF-8'],
      capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
      // sudo has to work; what set-id gives is bounded by the user namespace.
      noNewPrivileges: false,
    },
    mounts,
    linux: {
      namespaces: [
        ...['pid', 'mount', 'network', 'ipc', 'uts', 'cgroup'].map((type) => ({ type })),
        { type: 'user', ...(mapsIds ? { path: bundle.paths.userNamespace } : {}) },
      ],
      uidMappings: range(bundle.ids.base),
      gidMappings: range(bundle.ids.base),
      ...(bundle.cgroup === null ? {} : { cgroupsPath: bundle.cgroup.ociPath }),
      maskedPaths: [...MASKED, ...(await maskedSys())],
      readonlyPaths: [...READ_ONLY],
    },
  }
}

/** The parts of an OCI runtime configuration that we fill in. */
export interface OciConfig {
  readonly ociVersion: string
  readonly hostname: string
  readonly root: { readonly path: string; readonly readonly: boolean }
  readonly process: Readonly<Record<string, unknown>>
  readonly mounts: readonly Mount[]
  readonly hooks?: Readonly<Record<string, unknown>>
  readonly linux: Readonly<Record<string, unknown>>
}

/** Changes a configuration before it is written. Tests take single protections away with it, to see that they are what holds. */
export type ConfigChange = (config: OciConfig) => OciConfig

export const writeConfig = (bundle: Bundle, config: OciConfig): Promise<void> =>
  writeFile(bundle.paths.bundleConfig, JSON.stringify(config), { mode: 0o600 })
