import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, realpathSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Pyro } from '@pyro/sdk'
import { clearHost, kill } from './host-clearing.ts'
import { volatileFolder } from './host-run.ts'
import { hashOf, lookAtHost, type HostSight } from './host-sight.ts'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
/** The `pyro` command of this checkout; a Node runs it. */
export const CLI = join(ROOT, 'packages', 'cli', 'bin', 'pyro.js')
const ENGINE = join(ROOT, 'packages', 'engine', 'bin', 'pyro-engine.js')
/** Built environment archives, kept between runs and homes. */
export const ENVIRONMENT_CACHE = join(ROOT, 'node_modules', '.cache', 'pyro-environments')
/** The smallest environment of the catalog: most cases need no more. */
export const ENVIRONMENT = 'debian:12-base'

const CLI_DEADLINE_MS = 150_000
const CLI_OUTPUT_BYTES = 256 * 1024 * 1024
/** What comes at once may take this long on a busy host. */
const PATIENCE_MS = 60_000
const POLL_MS = 20

export interface WorldOptions {
  /** Variables of the engine and the CLI, beside those that keep the home apart. */
  readonly env?: Readonly<Record<string, string>>
  readonly disk?: 'btrfs' | 'copy'
  /** Folder that the home is made in; default: the system's temporary folder. */
  readonly within?: string
}

export interface CliEnd {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/**
 * A home of its own with an engine of its own. Disposing deletes all workspaces, ends the engine and then asserts, from outside, that
 * nothing of this home is left on the host.
 */
export class World implements AsyncDisposable {
  /** Folder that holds the home; gone afterwards. */
  readonly folder: string
  readonly home: string
  /** Volatile state of the engine; short and passable, as below /run. */
  readonly runtimeDir: string
  readonly env: Record<string, string>
  readonly pyro: Pyro
  #closed = false

  private constructor(parts: { folder: string; runtimeDir: string; env: Record<string, string>; pyro: Pyro }) {
    this.folder = parts.folder
    this.home = parts.pyro.client.home
    this.runtimeDir = parts.runtimeDir
    this.env = parts.env
    this.pyro = parts.pyro
  }

  static async open(options: WorldOptions = {}): Promise<World> {
    const folder = realpathSync(mkdtempSync(join(options.within ?? tmpdir(), 'pyro-world-')))
    const home = join(folder, 'home')
    const runtimeDir = volatileFolder('w-')
    const env: Record<string, string> = {
      PYRO_HOME: home,
      PYRO_RUNTIME_DIR: runtimeDir,
      PYRO_ENGINE: ENGINE,
      PYRO_ENVIRONMENT_CACHE: ENVIRONMENT_CACHE,
      PYRO_TEST_DRIVER: '1',
      PYRO_POOL_STEP_MIB: '2048',
      PYRO_HOST_RESERVE_MIB: '256',
      ...(options.disk === undefined ? {} : { PYRO_DISK: options.disk }),
      ...options.env,
    }
    Object.assign(process.env, env)
    return new World({ folder, runtimeDir, env, pyro: await Pyro.connect({ home }) })
  }

  /** The engine's pid; null when none runs. */
  async enginePid(): Promise<number | null> {
    const status = await this.pyro.engine.status()
    return status.pid
  }

  /** SIGKILL, and waits until it is gone. The next call starts another one. */
  async killEngine(): Promise<void> {
    const pid = await this.enginePid()
    if (pid === null) return
    kill(pid)
    await until(() => !isRunning(pid), `the end of engine ${pid}`)
  }

  /** Ends this engine and lets the next call start one with these variables on top. */
  async restartEngine(env: Readonly<Record<string, string>> = {}): Promise<void> {
    await this.killEngine()
    Object.assign(this.env, env)
    Object.assign(process.env, env)
    await this.pyro.engine.start()
  }

  /** Removes a variable for engines to come. */
  unset(name: string): void {
    delete this.env[name]
    delete process.env[name]
  }

  /** The `pyro` command as a user runs it. Never throws for an exit code. */
  async cli(
    args: readonly string[],
    options: { input?: string | Buffer; cwd?: string; env?: Readonly<Record<string, string>> } = {},
  ): Promise<CliEnd> {
    const child = spawn(process.execPath, [CLI, ...args], {
      cwd: options.cwd ?? this.folder,
      env: { ...process.env, ...this.env, NO_COLOR: '1', ...options.env },
      stdio: ['pipe', 'pipe', 'pipe'],
      timeout: CLI_DEADLINE_MS,
      killSignal: 'SIGKILL',
    })
    const stdout: Buffer[] = []
    const stderr: Buffer[] = []
    let size = 0
    child.stdout.on('data', (chunk: Buffer) => {
      size += chunk.length
      if (size > CLI_OUTPUT_BYTES) child.kill('SIGKILL')
      else stdout.push(chunk)
    })
    child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk))
    child.stdin.on('error', () => undefined)
    child.stdin.end(options.input ?? '')
    const code = await new Promise<number>((resolve, reject) => {
      child.once('error', reject)
      child.once('close', (exitCode) => resolve(exitCode ?? -1))
    })
    return { code, stdout: Buffer.concat(stdout).toString('latin1'), stderr: Buffer.concat(stderr).toString() }
  }

  /** What of this home is on the host, seen from outside. */
  sight(): Promise<HostSight> {
    return lookAtHost({ folders: [this.home, this.runtimeDir], hashes: [hashOf(this.home)] })
  }

  engineLog(): string {
    return readFileSync(join(this.home, 'logs', 'engine.log'), 'utf8')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    try {
      this.unset('PYRO_FAULT')
      const { errors } = await this.pyro.workspaces.delete([], { all: true })
      if (errors.length > 0) throw new Error(`not deleted: ${JSON.stringify(errors)}\n${this.#logTail()}`)
      const pid = await this.enginePid()
      await this.pyro.engine.shutdown()
      if (pid !== null) await until(() => !isRunning(pid), `the end of engine ${pid}`)
      const left = await this.#settledSight()
      if (left.length > 0) throw new Error(`left behind on the host:\n${left.join('\n')}\n${this.#logTail()}`)
    } finally {
      for (const name of Object.keys(this.env)) delete process.env[name]
      // What a failed test left is reported already: the next one starts clean.
      await clearHost({ folders: [this.folder, this.runtimeDir], hashes: [hashOf(this.home)] })
    }
  }

  /** Kernel objects may take a moment to go after the process that held them. */
  async #settledSight(): Promise<readonly string[]> {
    const deadline = Date.now() + PATIENCE_MS
    for (;;) {
      const { lines } = await this.sight()
      if (lines.length === 0 || Date.now() > deadline) return lines
      await new Promise((resolve) => setTimeout(resolve, POLL_MS))
    }
  }

  #logTail(): string {
    return this.engineLog().trimEnd().split('\n').slice(-15).join('\n')
  }
}

export const isRunning = (pid: number): boolean => {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    return !/^\d+ \(.*\) [ZX] /s.test(stat)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT' || (error as NodeJS.ErrnoException).code === 'ESRCH')
      return false
    throw error
  }
}

/** Polls until true; fails with what was waited for. */
export const until = async (
  check: () => boolean | Promise<boolean>,
  what: string,
  deadlineMs: number = PATIENCE_MS,
): Promise<void> => {
  const deadline = Date.now() + deadlineMs
  while (!(await check())) {
    if (Date.now() > deadline) throw new Error(`waited ${deadlineMs} ms for ${what}`)
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}
