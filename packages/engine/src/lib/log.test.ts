import { closeSync, openSync } from 'node:fs'
import { expect, test } from 'vitest'
import { linesTo } from './log.ts'

test('a log without room loses lines and throws nothing', () => {
  const full = openSync('/dev/full', 'w')
  try {
    const lines = linesTo(full)
    for (const line of ['one\n', 'two\n']) expect(() => lines.write(line)).not.toThrow()
  } finally {
    closeSync(full)
  }
})
