import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { COUNTS_FILE_VARIABLE } from './count-reporter.ts'
import type { Tally } from './tally.ts'

/** Runs vitest in the checkout at `root`, with its output on ours, and counts what came of it. */
export async function vitest(
  root: string,
  args: readonly string[],
  variables: Readonly<Record<string, string>> = {},
): Promise<Tally> {
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
