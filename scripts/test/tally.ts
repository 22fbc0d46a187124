/** Outcome counts of one test run. */
export interface Tally {
  passed: number
  failed: number
  skipped: number
}

export function addTallies(tallies: readonly Tally[]): Tally {
  const sum: Tally = { passed: 0, failed: 0, skipped: 0 }
  for (const tally of tallies) {
    sum.passed += tally.passed
    sum.failed += tally.failed
    sum.skipped += tally.skipped
  }
  return sum
}
