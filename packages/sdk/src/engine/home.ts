import { realpathSync } from 'node:fs'
import { homedir } from 'node:os'
import { basename, dirname, join, resolve } from 'node:path'
import { absolutePath, runtimeRoot, setting } from '@pyro/protocol/client'

const crypto = process.getBuiltinModule('node:crypto')

/** Enough of the hash to tell homes apart and to keep socket paths short. */
const HOME_HASH_LENGTH = 12

export interface HomeOptions {
  /** State folder of the engine. Default: `PYRO_HOME`, else `/var/lib/pyro` for root and the XDG data folder for others. */
  readonly home?: string | undefined
  readonly env?: NodeJS.ProcessEnv | undefined
}

/** @throws PyroError `input.invalid` for a relative `PYRO_HOME`; the option may be relative to the folder of this process */
export const resolveHome = ({ home, env = process.env }: HomeOptions = {}): string =>
  realpathOfDeepest(resolve(home ?? absolutePath(env, 'PYRO_HOME') ?? defaultHome(env)))

/**
 * The socket of the engine that owns this home, as the engine computes it.
 *
 * @throws PyroError `input.invalid` for a `PYRO_RUNTIME_DIR` that is relative, or too long for sockets
 */
export const socketOfHome = (home: string, env: NodeJS.ProcessEnv = process.env): string => {
  const hash = crypto.hash('sha256', home).slice(0, HOME_HASH_LENGTH)
  return join(runtimeRoot(env), hash, 'engine.sock')
}

const defaultHome = (env: NodeJS.ProcessEnv): string => {
  if (process.getuid?.() === 0) return '/var/lib/pyro'
  return join(setting(env, 'XDG_DATA_HOME') ?? join(homedir(), '.local', 'share'), 'pyro')
}

/** The real path that this path will have once it is made: what exists of it is resolved. */
const realpathOfDeepest = (path: string): string => {
  try {
    return realpathSync(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || dirname(path) === path) throw error
    return join(realpathOfDeepest(dirname(path)), basename(path))
  }
}
