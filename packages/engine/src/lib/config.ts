import { createHash } from 'node:crypto'
import { homedir } from 'node:os'
import { isAbsolute, join } from 'node:path'
import { LIMITS, PyroError, type Limits } from '@pyro/protocol'

const GIB = 1024 * 1024 * 1024

/** Everything the environment can change about an engine. Read once, in main.ts. */
export interface EngineConfig {
  /** Durable state: database, pool, environments, command logs. Absolute, symlinks resolved. */
  readonly home: string
  /** Volatile state: sockets, bundles, mounts. Gone after a reboot. */
  readonly runtimeDir: string
  readonly limits: Limits
  /** Which disk store; `auto`: btrfs where it works, else copy. */
  readonly disk: 'auto' | 'btrfs' | 'copy'
  /** Bytes the pool file starts with, and grows by. */
  readonly poolStepBytes: number
  /** The pool never grows when less than this would stay free on the host. */
  readonly hostReserveBytes: number
  /** Space that the state keeps for itself, so that everything but making more works on a full host. */
  readonly stateReserveBytes: number
  /** First id outside of the user namespace of sandboxes; 65,536 ids. */
  readonly idBase: number
  /** Allows `--driver fake`. Tests only. */
  readonly testDriver: boolean
  /** Device of KVM. */
  readonly kvmDevice: string
  /** Machines begin with the memory of one that booted before; false: each boots. */
  readonly machineTemplates: boolean
  /** Debian package whose kernel microVMs have; null: that of the catalog. Absolute. */
  readonly guestKernelPackage: string | null
  /** Fault injection at steps, e.g. `workspace.create/start-sandbox:kill`. Tests only. */
  readonly fault: string | null
  /** A Debian mirror for building environments; default: what this host's apt uses. */
  readonly debianMirror: string | null
  /** Folder shared between homes that keeps built environment archives. Null: none. */
  readonly environmentCache: string | null
}

/** Null when it is not set, or empty. */
const setting = (env: NodeJS.ProcessEnv, name: string): string | null => env[name] || null

const wholeNumber = (env: NodeJS.ProcessEnv, name: string): number | null => {
  const text = setting(env, name)
  if (text === null) return null
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 0)
    throw new PyroError('input.invalid', `${name} is not a whole number: ${text}`)
  return value
}

/** An engine does not run in the folder of whoever starts it. */
const absolutePath = (env: NodeJS.ProcessEnv, name: string): string | null => {
  const path = setting(env, name)
  if (path === null || isAbsolute(path)) return path
  throw new PyroError('input.invalid', `${name} is not an absolute path: ${path}`)
}

/** Of a setting in MiB. */
const bytesOf = (env: NodeJS.ProcessEnv, name: string): number | null => {
  const value = wholeNumber(env, name)
  return value === null ? null : value * MIB
}

const MIB = 1024 * 1024

const limitsFrom = (text: string | null): Limits => {
  if (text === null) return LIMITS
  const given: unknown = JSON.parse(text)
  if (typeof given !== 'object' || given === null)
    throw new PyroError('input.invalid', 'PYRO_LIMITS is not a JSON object')
  const limits: Record<string, number> = { ...LIMITS }
  for (const [key, value] of Object.entries(given)) {
    if (!Object.hasOwn(LIMITS, key) || typeof value !== 'number')
      throw new PyroError('input.invalid', `PYRO_LIMITS: unknown limit or not a number: ${key}`)
    limits[key] = value
  }
  return limits as unknown as Limits
}

export const defaultHome = (env: NodeJS.ProcessEnv, uid: number): string => {
  const named = setting(env, 'PYRO_HOME')
  if (named !== null) return named
  if (uid === 0) return '/var/lib/pyro'
  return join(setting(env, 'XDG_DATA_HOME') ?? join(homedir(), '.local', 'share'), 'pyro')
}

/** Short and stable, so that socket paths fit into 108 bytes whatever the home. */
export const homeHash = (home: string): string => createHash('sha256').update(home).digest('hex').slice(0, 12)

/** `home` must be resolved (realpath) already. An empty variable counts as unset. */
export const configFrom = (env: NodeJS.ProcessEnv, home: string): EngineConfig => {
  const disk = setting(env, 'PYRO_DISK') ?? 'auto'
  if (disk !== 'auto' && disk !== 'btrfs' && disk !== 'copy')
    throw new PyroError('input.invalid', `PYRO_DISK must be auto, btrfs or copy, not ${disk}`)
  return {
    home,
    runtimeDir: join(setting(env, 'PYRO_RUNTIME_DIR') ?? '/run/pyro', homeHash(home)),
    limits: limitsFrom(setting(env, 'PYRO_LIMITS')),
    disk,
    poolStepBytes: bytesOf(env, 'PYRO_POOL_STEP_MIB') ?? 8 * GIB,
    hostReserveBytes: bytesOf(env, 'PYRO_HOST_RESERVE_MIB') ?? 5 * GIB,
    stateReserveBytes: bytesOf(env, 'PYRO_STATE_RESERVE_MIB') ?? 8 * MIB,
    idBase: wholeNumber(env, 'PYRO_ID_BASE') ?? 0x40000000,
    testDriver: setting(env, 'PYRO_TEST_DRIVER') === '1',
    kvmDevice: setting(env, 'PYRO_KVM_DEVICE') ?? '/dev/kvm',
    machineTemplates: setting(env, 'PYRO_MACHINE_TEMPLATES') !== '0',
    guestKernelPackage: absolutePath(env, 'PYRO_GUEST_KERNEL'),
    fault: setting(env, 'PYRO_FAULT'),
    debianMirror: setting(env, 'PYRO_DEBIAN_MIRROR'),
    environmentCache: setting(env, 'PYRO_ENVIRONMENT_CACHE'),
  }
}
