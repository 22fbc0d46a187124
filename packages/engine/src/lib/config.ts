import { createHash } from 'node:crypto'
import { homedir } from 'node:os'
import { join } from 'node:path'
import {
  absolutePath,
  invalidSetting,
  LIMITS,
  runtimeRoot,
  setting,
  type Limits,
  type PyroError,
  type Variables,
} from '@pyro/protocol'

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

interface Range {
  readonly least: number
  readonly most: number
  readonly unit: string
}

const wholeNumber = (env: Variables, name: string, { least, most, unit }: Range): number | null => {
  const text = setting(env, name)
  if (text === null) return null
  const value = Number(text)
  if (/^\d+$/.test(text) && value >= least && value <= most) return value
  const wanted = `a whole number${unit} from ${least} to ${most}`
  throw invalidSetting(name, `is not ${wanted}: ${text}`, wanted)
}

const MIB = 1024 * 1024
const MOST_MIB = Math.floor(Number.MAX_SAFE_INTEGER / MIB)

/** Of a setting in MiB. */
const bytesOf = (env: Variables, name: string, leastMib = 0): number | null => {
  const value = wholeNumber(env, name, { least: leastMib, most: MOST_MIB, unit: ' of MiB' })
  return value === null ? null : value * MIB
}

const choice = <T extends string>(env: Variables, name: string, choices: readonly T[]): T | null => {
  const text = setting(env, name)
  if (text === null) return null
  const found = choices.find((one) => one === text)
  if (found !== undefined) return found
  const wanted = `${choices.slice(0, -1).join(', ')} or ${choices.at(-1)}`
  throw invalidSetting(name, `is not ${wanted}: ${text}`, wanted)
}

const flag = (env: Variables, name: string): boolean | null => {
  const text = choice(env, name, ['0', '1'])
  return text === null ? null : text === '1'
}

const limitsFrom = (env: Variables): Limits => {
  const text = setting(env, 'PYRO_LIMITS')
  if (text === null) return LIMITS
  const given = objectIn(text)
  if (given === null) throw invalidLimits(`is not a JSON object: ${text}`)
  const limits: Record<string, number> = { ...LIMITS }
  for (const [key, value] of Object.entries(given)) {
    if (!Object.hasOwn(LIMITS, key)) throw invalidLimits(`names a limit that there is not: ${key}`)
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0)
      throw invalidLimits(`has for ${key} no whole number: ${JSON.stringify(value)}`)
    limits[key] = value
  }
  return limits as unknown as Limits
}

const objectIn = (text: string): object | null => {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && !Array.isArray(value) ? value : null
  } catch (error) {
    if (error instanceof SyntaxError) return null
    throw error
  }
}

const invalidLimits = (what: string): PyroError =>
  invalidSetting('PYRO_LIMITS', what, 'a JSON object of limits, such as {"snapshotsPerWorkspace":8}')

const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const

/** How much the log says. */
export const logLevel = (env: Variables): string => choice(env, 'PYRO_LOG_LEVEL', LOG_LEVELS) ?? 'info'

/** With fewer above it, up to 0x80000000, a sandbox would have no range of its own. */
const ID_BASES = { least: 65_536, most: 0x7ffe_0000, unit: '' }

export const defaultHome = (env: Variables, uid: number): string => {
  const named = absolutePath(env, 'PYRO_HOME')
  if (named !== null) return named
  if (uid === 0) return '/var/lib/pyro'
  return join(setting(env, 'XDG_DATA_HOME') ?? join(homedir(), '.local', 'share'), 'pyro')
}

/** Short and stable, so that socket paths fit into 108 bytes whatever the home. */
export const homeHash = (home: string): string => createHash('sha256').update(home).digest('hex').slice(0, 12)

/**
 * `home` must be resolved (realpath) already. An empty variable counts as unset.
 *
 * @throws PyroError `input.invalid` for what a variable may not be
 */
export const configFrom = (env: Variables, home: string): EngineConfig => ({
  home,
  runtimeDir: join(runtimeRoot(env), homeHash(home)),
  limits: limitsFrom(env),
  disk: choice(env, 'PYRO_DISK', ['auto', 'btrfs', 'copy']) ?? 'auto',
  poolStepBytes: bytesOf(env, 'PYRO_POOL_STEP_MIB', 1) ?? 8 * GIB,
  hostReserveBytes: bytesOf(env, 'PYRO_HOST_RESERVE_MIB') ?? 5 * GIB,
  stateReserveBytes: bytesOf(env, 'PYRO_STATE_RESERVE_MIB') ?? 8 * MIB,
  idBase: wholeNumber(env, 'PYRO_ID_BASE', ID_BASES) ?? 0x40000000,
  testDriver: flag(env, 'PYRO_TEST_DRIVER') ?? false,
  kvmDevice: absolutePath(env, 'PYRO_KVM_DEVICE') ?? '/dev/kvm',
  machineTemplates: flag(env, 'PYRO_MACHINE_TEMPLATES') ?? true,
  guestKernelPackage: absolutePath(env, 'PYRO_GUEST_KERNEL'),
  fault: setting(env, 'PYRO_FAULT'),
  debianMirror: setting(env, 'PYRO_DEBIAN_MIRROR'),
  environmentCache: absolutePath(env, 'PYRO_ENVIRONMENT_CACHE'),
})
