import { expect, test } from 'vitest'
import { GoTestEvents } from './go-test.ts'

function collect(events: readonly object[]): { events: GoTestEvents; printed: string } {
  let printed = ''
  const collector = new GoTestEvents((text) => {
    printed += text
  })
  for (const event of events) collector.line(JSON.stringify(event))
  return { events: collector, printed }
}

test('passed, failed and skipped Go tests are counted, and only a failed one shows its output', () => {
  const { events, printed } = collect([
    { Action: 'output', Package: 'p', Test: 'TestA', Output: 'quiet\n' },
    { Action: 'pass', Package: 'p', Test: 'TestA' },
    { Action: 'skip', Package: 'p', Test: 'TestB' },
    { Action: 'output', Package: 'p', Test: 'TestC', Output: 'broken here\n' },
    { Action: 'fail', Package: 'p', Test: 'TestC' },
    { Action: 'fail', Package: 'p', Elapsed: 0.2 },
  ])
  expect(events.tally).toEqual({ passed: 1, failed: 1, skipped: 1 })
  expect(printed).toContain('broken here')
  expect(printed).not.toContain('quiet')
})

test('a Go package that does not build counts as one failure and shows the compiler', () => {
  const { events, printed } = collect([
    { Action: 'build-output', ImportPath: 'p', Output: 'undefined: foo\n' },
    { Action: 'build-fail', ImportPath: 'p' },
    { Action: 'fail', Package: 'p', Elapsed: 0 },
  ])
  expect(events.tally.failed).toBe(1)
  expect(printed).toContain('undefined: foo')
})
