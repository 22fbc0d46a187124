import { accessSync, constants, existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { delimiter, isAbsolute, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { PyroError } from '@pyro/protocol/client'

/** A program with its first arguments, ready to spawn. */
export interface EngineProgram {
  readonly file: string
  readonly args: readonly string[]
}

/** Finds the engine: the option or `PYRO_ENGINE`, the installed `@pyro/engine`, `pyro-engine` on PATH. */
export const locateEngine = (named: string | undefined, env: NodeJS.ProcessEnv = process.env): EngineProgram => {
  const wanted = named ?? env['PYRO_ENGINE']
  if (wanted !== undefined && wanted !== '') return programOf(wanted, env)
  const installed = installedEngine()
  if (installed !== null) return programOf(installed, env)
  const onPath = findOnPath('pyro-engine', env)
  if (onPath !== null) return { file: onPath, args: [] }
  throw new PyroError('engine.not-installed', 'the engine program cannot be found; nothing was started', {
    hint: 'npm install @pyro/engine, or name it with PYRO_ENGINE=/path/to/engine',
  })
}

const programOf = (path: string, env: NodeJS.ProcessEnv): EngineProgram => {
  const full = path.includes('/') ? resolve(path) : findOnPath(path, env)
  if (full === null || !existsSync(full)) {
    throw new PyroError('engine.not-installed', `the engine program ${path} does not exist; nothing was started`, {
      hint: 'set PYRO_ENGINE to the engine program, or unset it to use the installed one',
    })
  }
  return /\.[cm]?[jt]s$/.test(full) ? { file: process.execPath, args: [full] } : { file: full, args: [] }
}

/** `@pyro/engine` beside this package, else beside the program that runs. */
const installedEngine = (): string | null => {
  try {
    return fileURLToPath(import.meta.resolve('@pyro/engine/main'))
  } catch (error) {
    if (!isResolveError(error)) throw error
  }
  const program = process.argv[1]
  if (program === undefined || !isAbsolute(program)) return null
  try {
    return createRequire(program).resolve('@pyro/engine/main')
  } catch (error) {
    if (!isResolveError(error)) throw error
    return null
  }
}

const isResolveError = (error: unknown): boolean =>
  ['ERR_MODULE_NOT_FOUND', 'MODULE_NOT_FOUND', 'ERR_PACKAGE_PATH_NOT_EXPORTED'].includes(
    String((error as NodeJS.ErrnoException).code),
  )

const findOnPath = (name: string, env: NodeJS.ProcessEnv): string | null => {
  for (const folder of (env['PATH'] ?? '').split(delimiter)) {
    if (folder === '') continue
    const candidate = join(folder, name)
    try {
      accessSync(candidate, constants.X_OK)
      return candidate
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code
      if (code !== 'ENOENT' && code !== 'EACCES' && code !== 'ENOTDIR') throw error
    }
  }
  return null
}
