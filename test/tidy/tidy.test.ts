import { describe, expect, test } from 'vitest'
import { codeRules } from './rules/code.ts'
import { documentRules } from './rules/documents.ts'
import { lockRules } from './rules/lock.ts'
import { placeRules } from './rules/places.ts'
import { traceRules } from './rules/traces.ts'
import { repositoryFiles, type Violation } from './sources.ts'

const files = repositoryFiles()

function render(violations: readonly Violation[]): string[] {
  return violations.map(({ path, line, message }) => `${path}${line === null ? '' : `:${line}`} ${message}`)
}

test('the repository lists its files', () => {
  expect(files.map(({ path }) => path)).toContain('test/tidy/tidy.test.ts')
})

for (const rule of [...placeRules, ...codeRules, ...traceRules, ...lockRules, ...documentRules]) {
  describe(rule.name, () => {
    test('holds in this repository', () => {
      expect(render(rule.check(files))).toEqual([])
    })
    test('has samples it must catch', () => {
      expect(rule.caught.length).toBeGreaterThan(0)
    })
    for (const [index, sample] of rule.caught.entries()) {
      test(`catches sample ${index + 1}`, () => {
        expect(rule.check(sample)).not.toEqual([])
      })
    }
    for (const [index, sample] of rule.allowed.entries()) {
      test(`allows sample ${index + 1}`, () => {
        expect(render(rule.check(sample))).toEqual([])
      })
    }
  })
}
