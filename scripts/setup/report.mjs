// Plain lines with durations for everything the set-up does. Time spent downloading is counted apart, because it says
// something about the network and nothing about Pyro. Everything goes to stderr: stdout belongs to the command that follows.
import { spawn } from 'node:child_process'

/** How much of a failed step's output is shown: npm tells the reason first and apt last. */
const HEAD_LINES = 12
const TAIL_LINES = 15
/** A step that is still silent after this long says so, again and again. */
const STILL_RUNNING_MS = 30_000

/** A set-up problem the user has to solve. Exit code 6 is "missing host capability", as everywhere in Pyro. */
export class SetupError extends Error {
  /** @param {string} message @param {{ hint?: string, exitCode?: number }} [options] */
  constructor(message, options = {}) {
    super(message)
    this.name = 'SetupError'
    this.hint = options.hint ?? null
    this.exitCode = options.exitCode ?? 6
  }
}

/** @type {{ totalMs: number, downloadMs: number }} */
export const spent = { totalMs: 0, downloadMs: 0 }

/** @param {string} text */
export function say(text) {
  process.stderr.write(`setup: ${text}\n`)
}

/** @param {number} ms */
export function seconds(ms) {
  return `${(ms / 1000).toFixed(1)} s`
}

/**
 * Runs one step and prints its name with its duration.
 * @template T
 * @param {string} name
 * @param {{ download?: boolean }} kind
 * @param {() => Promise<T>} action
 * @returns {Promise<T>}
 */
export async function step(name, kind, action) {
  const startedAt = performance.now()
  const timer = setInterval(() => {
    say(`${name}: still running after ${seconds(performance.now() - startedAt)}`)
  }, STILL_RUNNING_MS)
  try {
    const result = await action()
    const ms = performance.now() - startedAt
    spent.totalMs += ms
    if (kind.download) spent.downloadMs += ms
    say(`${name.padEnd(58)} ${seconds(ms).padStart(8)}${kind.download ? '  (download)' : ''}`)
    return result
  } finally {
    clearInterval(timer)
  }
}

/**
 * Runs a program with its output kept; a failure shows the end of it.
 * @param {string} program
 * @param {string[]} args
 * @param {{ cwd?: string, env?: NodeJS.ProcessEnv, deadlineMs: number, hint?: string }} options
 * @returns {Promise<string>} stdout and stderr, in order of arrival
 */
export async function run(program, args, options) {
  const child = spawn(program, args, {
    cwd: options.cwd,
    env: options.env ?? process.env,
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: options.deadlineMs,
    killSignal: 'SIGKILL',
  })
  let output = ''
  const keep = (/** @type {Buffer} */ chunk) => {
    output += chunk.toString()
  }
  child.stdout.on('data', keep)
  child.stderr.on('data', keep)
  /** @type {{ code: number | null, signal: string | null }} */
  const end = await new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code, signal) => resolve({ code, signal }))
  })
  if (end.code === 0) return output
  const how =
    end.signal === 'SIGKILL'
      ? `did not end within ${seconds(options.deadlineMs)}`
      : `ended with ${end.code ?? end.signal}`
  const lines = output.trimEnd().split('\n')
  const shown =
    lines.length <= HEAD_LINES + TAIL_LINES ? lines : [...lines.slice(0, HEAD_LINES), '…', ...lines.slice(-TAIL_LINES)]
  throw new SetupError(`${program} ${args.join(' ')} ${how}:\n${shown.join('\n')}`, {
    exitCode: 1,
    ...(options.hint === undefined ? {} : { hint: options.hint }),
  })
}
