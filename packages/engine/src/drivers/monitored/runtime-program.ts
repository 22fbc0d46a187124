import { access, constants, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoOf } from '../../process/identity.ts'
import { runProgram } from '../../process/program.ts'

const VERSION_TIMEOUT_MS = 5_000
const SEARCH_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** A container runtime as it is installed: found once, asked for its version once per build. */
export class RuntimeProgram {
  readonly name: string
  #version: { readonly build: string; readonly text: string } | null = null

  constructor(name: string) {
    this.name = name
  }

  /** Absolute path, or null when it is not installed. */
  async find(): Promise<string | null> {
    for (const folder of (process.env['PATH'] ?? SEARCH_PATH).split(':')) {
      const path = join(folder, this.name)
      try {
        await access(path, constants.X_OK)
        return path
      } catch (error) {
        const errno = errnoOf(error)
        if (errno !== 'ENOENT' && errno !== 'EACCES' && errno !== 'ENOTDIR') throw error
      }
    }
    return null
  }

  /** First line of what `--version` prints, e.g. `runc version 1.1.5+ds1`. */
  async version(): Promise<string> {
    const path = await this.find()
    if (path === null) return `${this.name} is not installed`
    const { size, mtimeMs } = await stat(path)
    const build = `${path} ${size} ${mtimeMs}`
    if (this.#version?.build === build) return this.#version.text
    const { stdout } = await runProgram(path, ['--version'], { timeoutMs: VERSION_TIMEOUT_MS })
    const text = stdout.split('\n')[0]?.trim() ?? ''
    this.#version = { build, text }
    return text
  }
}
