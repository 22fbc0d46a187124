// `npm run check`: everything that can be said about the sources without running Pyro. All checks run, also after a failure.
import { spawn } from 'node:child_process'
import { delimiter, join } from 'node:path'

const root = join(import.meta.dirname, '..')
const CHECK_DEADLINE_MS = 10 * 60_000

interface Check {
  readonly name: string
  readonly command: readonly [string, ...string[]]
  readonly cwd?: string
  /** A program that reports through its output instead of its exit code. */
  readonly silent?: true
}

const checks: readonly Check[] = [
  { name: 'format', command: ['prettier', '--check', '--log-level', 'warn', '.'] },
  { name: 'types', command: ['tsc', '-b'] },
  { name: 'lint', command: ['oxlint', '--type-aware', '--deny-warnings'] },
  { name: 'import boundaries and style', command: ['vitest', 'run', '--project', 'tidy', '--reporter', 'dot'] },
  { name: 'unused code', command: ['knip', '--no-progress'] },
  { name: 'generated files', command: ['node', 'scripts/generate.ts', '--check'] },
  { name: 'Go format', command: ['gofmt', '-l', 'guest'], silent: true },
  { name: 'Go vet', command: ['go', 'vet', './...'], cwd: 'guest' },
]

interface Outcome {
  readonly ok: boolean
  readonly output: string
}

async function perform(check: Check): Promise<Outcome> {
  const [program, ...args] = check.command
  const child = spawn(program, args, {
    cwd: join(root, check.cwd ?? '.'),
    env: {
      ...process.env,
      PATH: [join(root, 'node_modules', '.bin'), process.env['PATH'] ?? ''].join(delimiter),
      GOTOOLCHAIN: 'local',
      GOFLAGS: '',
      GOWORK: 'off',
    },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: CHECK_DEADLINE_MS,
    killSignal: 'SIGKILL',
  })
  let output = ''
  const keep = (chunk: Buffer): void => {
    output += chunk.toString()
  }
  child.stdout.on('data', keep)
  child.stderr.on('data', keep)
  const code = await new Promise<number | null>((resolve) => {
    child.on('error', (error) => {
      output += String(error)
      resolve(null)
    })
    child.on('close', resolve)
  })
  return { ok: code === 0 && !(check.silent === true && output.trim() !== ''), output }
}

let failed = 0
for (const check of checks) {
  const startedAt = performance.now()
  const { ok, output } = await perform(check)
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1)
  process.stdout.write(`${ok ? 'ok    ' : 'FAILED'} ${check.name.padEnd(30)} ${seconds.padStart(6)} s\n`)
  if (!ok) {
    failed += 1
    process.stdout.write(`${output.trimEnd()}\n\n`)
  }
}
process.stdout.write(`${checks.length - failed} checks passed, ${failed} failed\n`)
process.exitCode = failed === 0 ? 0 : 1
