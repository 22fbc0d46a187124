import { spawn } from 'node:child_process'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { COUNTS_VARIABLE } from './count-reporter.ts'
import type { Tally } from './tally.ts'

const COUNTS_DESCRIPTOR = 3

/** Runs vitest in the checkout at `root`, with its output on ours, and counts what came of it. */
export async function vitest(
  root: string,
  args: readonly string[],
  variables: Readonly<Record<string, string>> = {},
): Promise<Tally> {
  const reporters = ['--reporter=default', '--reporter=./scripts/test/count-reporter.ts']
  const child = spawn(join(root, 'node_modules', '.bin', 'vitest'), ['run', ...reporters, ...args], {
    cwd: root,
    env: { ...process.env, ...variables, [COUNTS_VARIABLE]: String(COUNTS_DESCRIPTOR) },
    stdio: ['ignore', 'inherit', 'inherit', 'pipe'],
  })
  const ended = new Promise<number | null>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code) => resolve(code))
  })
  const [counts, exitCode] = await Promise.all([text(child.stdio[COUNTS_DESCRIPTOR] as Readable), ended])
  return readCounts(counts, exitCode)
}

function readCounts(counts: string, exitCode: number | null): Tally {
  let tally: Tally
  try {
    tally = JSON.parse(counts) as Tally
  } catch (error) {
    process.stdout.write(`vitest ended with ${exitCode} before it counted its tests: ${String(error)}\n`)
    return { passed: 0, failed: 1, skipped: 0 }
  }
  // A leaked handle or a failed global teardown fails the run without failing a test.
  return exitCode !== 0 && tally.failed === 0 ? { ...tally, failed: 1 } : tally
}
