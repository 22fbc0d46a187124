import { writeFileSync } from 'node:fs'
import type { SerializedError } from 'vitest'
import type { Reporter, TestModule } from 'vitest/node'
import type { Tally } from './tally.ts'

/** Names the descriptor that the counts go to: `scripts/test.ts` adds them to those of the Go tests. */
export const COUNTS_VARIABLE = 'PYRO_TEST_COUNTS'

/**
 * Writes how many tests passed, failed and were skipped. A file that could not be loaded and an error outside of any test
 * are failures too: otherwise a broken suite would count as one with few tests.
 */
export default class CountReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly SerializedError[]): void {
    const descriptor = process.env[COUNTS_VARIABLE]
    if (descriptor === undefined) return
    const tally: Tally = { passed: 0, failed: unhandledErrors.length, skipped: 0 }
    for (const module of modules) {
      let failedInside = 0
      for (const test of module.children.allTests()) {
        const { state } = test.result()
        if (state === 'passed') tally.passed += 1
        else if (state === 'failed') failedInside += 1
        else tally.skipped += 1
      }
      // A failed hook or import fails the file without failing one of its tests.
      tally.failed += module.state() === 'failed' ? Math.max(failedInside, 1) : failedInside
    }
    writeFileSync(Number(descriptor), JSON.stringify(tally))
  }
}
