import { describe, expect, test } from 'vitest'
import { provocations } from './error-coverage.ts'

describe('every error code is provoked by a test', () => {
  test.each([...provocations()])('%s', (_code, places) => {
    expect(places).not.toEqual([])
  })
})
