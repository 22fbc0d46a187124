// `npm test`: the Go tests, then the TypeScript tests. With arguments, only vitest runs, with those arguments:
// `npm test -- test/e2e/reset.test.ts`, `npm test -- --project unit`.
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { COUNTS_FILE_VARIABLE } from './test/count-reporter.ts'
import { goTest } from './test/go-test.ts'
import { addTallies, type Tally } from './test/tally.ts'

const root = join(import.meta.dirname, '..')

async function vitest(args: readonly string[], variables: NodeJS.ProcessEnv = {}): Promise<Tally> {
  const folder = mkdtempSync(join(tmpdir(), 'pyro-test-counts-'))
  const countsFile = join(folder, 'counts.json')
  try {
    const reporters = ['--reporter=default', '--reporter=./scripts/test/count-reporter.ts']
    const child = spawn(join(root, 'node_modules', '.bin', 'vitest'), ['run', ...reporters, ...args], {
      cwd: root,
      env: { ...process.env, ...variables, [COUNTS_FILE_VARIABLE]: countsFile },
      stdio: ['ignore', 'inherit', 'inherit'],
    })
    const code = await new Promise<number | null>((resolve, reject) => {
      child.on('error', reject)
      child.on('close', (exitCode) => resolve(exitCode))
    })
    return readCounts(countsFile, code)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function readCounts(file: string, exitCode: number | null): Tally {
  let tally: Tally
  try {
    tally = JSON.parse(readFileSync(file, 'utf8')) as Tally
  } catch (error) {
    process.stdout.write(`vitest ended with ${exitCode} before it counted its tests: ${String(error)}\n`)
    return { passed: 0, failed: 1, skipped: 0 }
  }
  // A leaked handle or a failed global teardown fails the run without failing a test.
  return exitCode !== 0 && tally.failed === 0 ? { ...tally, failed: 1 } : tally
}

/** Emulated machines take their time: they run what every driver must do the same, and not all of it. */
const ON_MACHINES = [
  ...['exact-restore', 'exec', 'export', 'files', 'reset', 'seed', 'snapshots'].map(
    (name) => `test/e2e/${name}.test.ts`,
  ),
  ...['killed-create', 'killed-reset', 'killed-sandbox', 'killed-snapshot'].map((name) => `test/fault/${name}.test.ts`),
]

const args = process.argv.slice(2)
const tallies: Tally[] = []
if (args.length === 0) tallies.push(await goTest(join(root, 'guest'), (text) => process.stdout.write(text)))
tallies.push(await vitest(args))
if (args.length === 0)
  tallies.push(
    await vitest(['--project', 'host', ...ON_MACHINES], {
      PYRO_TEST_DRIVERS: 'qemu',
      REQUIRE_DRIVERS: 'qemu',
    }),
  )

const total = addTallies(tallies)
if (total.skipped > 0) process.stdout.write(`${total.skipped} skipped\n`)
process.stdout.write(`${total.passed} passed, ${total.failed} failed\n`)
process.exitCode = total.failed === 0 && total.passed > 0 ? 0 : 1
