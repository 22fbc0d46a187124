/** Outcome counts of one test run. */
export interface Tally {
  passed: number
  failed: number
  skipped: number
}

/** Ends a run: what came of all its parts, as its last line and exit code. */
export function report(tallies: readonly Tally[]): void {
  const sum: Tally = { passed: 0, failed: 0, skipped: 0 }
  for (const tally of tallies) {
    sum.passed += tally.passed
    sum.failed += tally.failed
    sum.skipped += tally.skipped
  }
  if (sum.skipped > 0) process.stdout.write(`${sum.skipped} skipped\n`)
  process.stdout.write(`${sum.passed} passed, ${sum.failed} failed\n`)
  process.exitCode = sum.failed === 0 && sum.passed > 0 ? 0 : 1
}
