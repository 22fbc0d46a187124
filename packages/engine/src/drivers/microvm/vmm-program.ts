import { stat } from 'node:fs/promises'
import { PyroError } from '@pyro/protocol'
import type { VmmSpec } from '@pyro/protocol/guest'
import { runProgram } from '../../process/program.ts'
import { RuntimeProgram } from '../monitored/runtime-program.ts'

const LDD_TIMEOUT_MS = 5_000
const NUMBERS = /\d+(?:\.\d+)+/

/** A VMM as it is installed here, and what of the host it has to see. */
export class VmmProgram extends RuntimeProgram {
  #libraries: { readonly build: string; readonly paths: readonly string[] } | null = null

  async path(): Promise<string> {
    const path = await this.find()
    if (path === null) throw new PyroError('driver.unavailable', `the program ${this.name} is not installed`)
    return path
  }

  /** Changes with every other build. */
  async build(): Promise<string> {
    const path = await this.path()
    const { size, mtimeMs } = await stat(path)
    return `${path} ${size} ${mtimeMs}`
  }

  /** Null when its version is the oldest that can do what machines need, or a later one. */
  async olderThan(oldest: string): Promise<string | null> {
    const version = await this.version()
    if (!NUMBERS.test(version)) return `the program ${this.name} tells no version${version && `: ${version}`}`
    return isOlder(version, oldest) ? `${version} is too old: ${oldest} is needed` : null
  }

  /** The program and what it is linked with. */
  async mounts(): Promise<VmmSpec['mounts']> {
    const path = await this.path()
    const build = await this.build()
    if (this.#libraries?.build !== build) this.#libraries = { build, paths: await librariesOf(path) }
    return [path, ...this.#libraries.paths].map((file) => ({ source: file, target: file, access: 'read' }))
  }
}

/** Compares the first version that each text names; one that names none is older than any. */
export const isOlder = (version: string, oldest: string): boolean => {
  const [installed, wanted] = [numbersOf(version), numbersOf(oldest)]
  const at = wanted.findIndex((number, index) => number !== (installed[index] ?? 0))
  return at >= 0 && (installed[at] ?? 0) < (wanted[at] ?? 0)
}

const numbersOf = (text: string): number[] => (NUMBERS.exec(text)?.[0] ?? '').split('.').map(Number)

/** The libraries and the loader of a program, as the loader finds them on this host; none for one that needs none. */
const librariesOf = async (program: string): Promise<string[]> => {
  const { stdout } = await runProgram('ldd', [program], { timeoutMs: LDD_TIMEOUT_MS })
  const paths = stdout.split('\n').map((line) => /(?:=> )?(\/\S+) \(0x[0-9a-f]+\)$/.exec(line.trim())?.[1])
  return [...new Set(paths.filter((path) => path !== undefined))]
}
