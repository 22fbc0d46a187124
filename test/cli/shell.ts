import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { CLI, until, type World } from '../support/world.ts'

const LINE_DEADLINE_MS = 60_000

/** Puts a `pyro` first on the PATH, as an installation does, and gives the variables of a shell that has it. */
export const shellEnv = (world: World): NodeJS.ProcessEnv => {
  const bin = join(world.folder, 'bin')
  mkdirSync(bin, { recursive: true })
  writeFileSync(join(bin, 'pyro'), `#!/bin/sh\nexec '${process.execPath}' '${CLI}' "$@"\n`, { mode: 0o755 })
  // A person's terminal is no build server, where Node shows few colours.
  const { NO_COLOR: _noColor, FORCE_COLOR: _forceColor, CI: _ci, ...env } = { ...process.env, ...world.env }
  return { ...env, PATH: `${bin}:${env['PATH'] ?? ''}`, TERM: 'xterm-256color' }
}

export interface ShellEnd {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface ShellOptions {
  readonly cwd?: string
  readonly env?: Readonly<Record<string, string>>
  /** Default: bash. */
  readonly shell?: string
}

/** Runs a line as a person types it. */
export const runLine = async (world: World, line: string, options: ShellOptions = {}): Promise<ShellEnd> => {
  const child = spawn(options.shell ?? 'bash', ['-c', line], {
    cwd: options.cwd ?? world.folder,
    env: { ...shellEnv(world), ...options.env },
    timeout: LINE_DEADLINE_MS,
    killSignal: 'SIGKILL',
  })
  return endOf(child)
}

/** What it printed, with nothing on its standard input. */
export const endOf = async (child: ChildProcessWithoutNullStreams): Promise<ShellEnd> => {
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
  child.stdin.end()
  const [code] = (await once(child, 'close')) as [number | null]
  return { code, stdout, stderr }
}

/** A line on a terminal of its own, 100 columns wide; `script` of util-linux makes it. */
export class TerminalLine implements AsyncDisposable {
  /** Everything that was shown. */
  screen = ''
  readonly #child: ChildProcessWithoutNullStreams
  readonly #closed: Promise<[number | null]>

  constructor(world: World, line: string, options: ShellOptions = {}) {
    this.#child = spawn(
      'script',
      ['--quiet', '--flush', '--return', '--command', `stty cols 100; ${line}`, '/dev/null'],
      {
        cwd: options.cwd ?? world.folder,
        env: { ...shellEnv(world), SHELL: '/bin/bash', ...options.env },
      },
    )
    this.#child.stdout.on('data', (chunk: Buffer) => (this.screen += chunk.toString()))
    this.#closed = once(this.#child, 'close') as Promise<[number | null]>
  }

  /** As keys: `\u0003` is Ctrl-C, `\r` is Enter. */
  type(text: string): void {
    this.#child.stdin.write(text)
  }

  sees(text: string | RegExp): Promise<void> {
    const isThere = (): boolean => (typeof text === 'string' ? this.screen.includes(text) : text.test(this.screen))
    return until(isThere, `${String(text)} on the screen, which shows: ${this.screen}`, LINE_DEADLINE_MS)
  }

  /** The exit code. */
  async ended(): Promise<number | null> {
    const [code] = await this.#closed
    return code
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGHUP')
    await this.#closed
  }
}

/** What a line shows on a terminal, and its exit code. */
export const onTerminal = async (
  world: World,
  line: string,
  options: ShellOptions = {},
): Promise<{ readonly code: number | null; readonly screen: string }> => {
  await using terminal = new TerminalLine(world, line, options)
  const code = await terminal.ended()
  return { code, screen: terminal.screen }
}
