import { describe, expect, test } from 'vitest'
import { uncited } from './requirements.ts'
import { fixture, repositoryFiles } from './sources.ts'

test('every requirement of the manifest is cited by a test', () => {
  expect(uncited(repositoryFiles())).toEqual([])
})

describe('the check', () => {
  const ids = ['reset.queued']
  test('finds a requirement that nobody cites', () => {
    expect(uncited(fixture('test/e2e/a.test.ts', "onEveryDriver('reset.other', body)"), ids)).toEqual(ids)
    expect(uncited([], ids)).toEqual(ids)
  })
  test('takes no mention outside of a suite for a test', () => {
    expect(uncited(fixture('test/support/a.ts', "onEveryDriver('reset.queued', body)"), ids)).toEqual(ids)
    expect(uncited(fixture('test/e2e/a.test.ts', "// reset.queued: see 'reset.queued'"), ids)).toEqual(ids)
  })
  test('accepts a citation on one line or on several', () => {
    expect(uncited(fixture('test/e2e/a.test.ts', "onEveryDriver('reset.queued', body)"), ids)).toEqual([])
    expect(uncited(fixture('test/e2e/a.test.ts', "onEveryDriver(\n    'reset.queued',\n    body)"), ids)).toEqual([])
  })
})
