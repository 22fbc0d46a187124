import { stat } from 'node:fs/promises'
import { findProgram } from '../../process/find-program.ts'
import { runProgram } from '../../process/program.ts'

const VERSION_TIMEOUT_MS = 5_000

/** A container runtime as it is installed: found once, asked for its version once per build. */
export class RuntimeProgram {
  readonly name: string
  #version: { readonly build: string; readonly text: string } | null = null

  constructor(name: string) {
    this.name = name
  }

  /** Absolute path, or null when it is not installed. */
  find(): Promise<string | null> {
    return findProgram(this.name, process.env['PATH'])
  }

  /** First line of what `--version` prints, e.g. `runc version 1.1.5+ds1`; of its complaints when it prints nothing. */
  async version(): Promise<string> {
    const path = await this.find()
    if (path === null) return `${this.name} is not installed`
    const { size, mtimeMs } = await stat(path)
    const build = `${path} ${size} ${mtimeMs}`
    if (this.#version?.build === build) return this.#version.text
    const { stdout, stderr } = await runProgram(path, ['--version'], { timeoutMs: VERSION_TIMEOUT_MS })
    const [text = ''] = `${stdout.trim()}\n${stderr.trim()}`.trim().split('\n')
    this.#version = { build, text }
    return text
  }
}
