import { createHash } from 'node:crypto'
import { homedir } from 'node:os'
import { join } from 'node:path'
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
  /** First id outside of the user namespace of sandboxes; 65,536 ids. */
  readonly idBase: number
  /** Allows `--driver fake`. Tests only. */
  readonly testDriver: boolean
  /** Fault injection at steps, e.g. `workspace.create/start-sandbox:kill`. Tests only. */
  readonly fault: string | null
  /** A Debian mirror for building environments; default: what this host's apt uses. */
  readonly debianMirror: string | null
  /** Folder shared between homes that keeps built environment archives. Null: none. */
  readonly environmentCache: string | null
}

const wholeNumber = (text: string, name: string): number => {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 0)
    throw new PyroError('input.invalid', `${name} is not a whole number: ${text}`)
  return value
}

const MIB = 1024 * 1024

const limitsFrom = (text: string | undefined): Limits => {
  if (text === undefined || text === '') return LIMITS
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
  if (env['PYRO_HOME'] !== undefined && env['PYRO_HOME'] !== '') return env['PYRO_HOME']
  if (uid === 0) return '/var/lib/pyro'
  return join(env['XDG_DATA_HOME'] ?? join(homedir(), '.local', 'share'), 'pyro')
}

/** Short and stable, so that socket paths fit into 108 bytes whatever the home. */
export const homeHash = (home: string): string => createHash('sha256').update(home).digest('hex').slice(0, 12)

/** `home` must be resolved (realpath) already. */
export const configFrom = (env: NodeJS.ProcessEnv, home: string): EngineConfig => {
  const disk = env['PYRO_DISK'] ?? 'auto'
  if (disk !== 'auto' && disk !== 'btrfs' && disk !== 'copy')
    throw new PyroError('input.invalid', `PYRO_DISK must be auto, btrfs or copy, not ${disk}`)
  return {
    home,
    runtimeDir: join(env['PYRO_RUNTIME_DIR'] ?? '/run/pyro', homeHash(home)),
    limits: limitsFrom(env['PYRO_LIMITS']),
    disk,
    poolStepBytes:
      env['PYRO_POOL_STEP_MIB'] === undefined
        ? 8 * GIB
        : wholeNumber(env['PYRO_POOL_STEP_MIB'], 'PYRO_POOL_STEP_MIB') * MIB,
    hostReserveBytes:
      env['PYRO_HOST_RESERVE_MIB'] === undefined
        ? 5 * GIB
        : wholeNumber(env['PYRO_HOST_RESERVE_MIB'], 'PYRO_HOST_RESERVE_MIB') * MIB,
    idBase: env['PYRO_ID_BASE'] === undefined ? 0x40000000 : wholeNumber(env['PYRO_ID_BASE'], 'PYRO_ID_BASE'),
    testDriver: env['PYRO_TEST_DRIVER'] === '1',
    fault: env['PYRO_FAULT'] ?? null,
    debianMirror: env['PYRO_DEBIAN_MIRROR'] || null,
    environmentCache: env['PYRO_ENVIRONMENT_CACHE'] || null,
  }
}
