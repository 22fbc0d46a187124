import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { parseArguments } from '../../packages/cli/src/args/parse.ts'
import { findCommand } from '../../packages/cli/src/args/words.ts'
import { COMMANDS } from '../../packages/cli/src/generated/commands.ts'
import { BY_HAND, QUICKSTART } from '../../scripts/first-run/lines.ts'
import { withoutMeasures } from '../../scripts/first-run/tell.ts'

const steps = [QUICKSTART, ...BY_HAND]

describe('docs/first-run.md', () => {
  const document = readFileSync(new URL('../../docs/first-run.md', import.meta.url), 'utf8')

  test('shows the lines that the command types, in their order', () => {
    const shown = document.split('\n').flatMap((line) => (line.startsWith('$ ') ? [line.slice(2)] : []))
    expect(shown, 'npm run first-run').toEqual(steps.flatMap(({ lines }) => lines))
    for (const { says } of steps) expect(document).toContain(says)
  })
})

describe('each line of the first run', () => {
  const lines = BY_HAND.flatMap(({ lines: some }) => some).filter((line) => line.startsWith('pyro '))

  test.each(lines)('%s is understood by the command line', (line) => {
    const [, ...words] = (line.split(' | ')[0] ?? '').match(/'[^']*'|\S+/g) ?? []
    const { entry, rest } = findCommand(COMMANDS, words)
    expect(entry).not.toBeNull()
    expect(entry === null ? null : parseArguments(entry, rest).help).toBe(false)
  })
})

describe('comparing two tellings', () => {
  test('leaves times, sizes and ids aside, and nothing else', () => {
    const one = 'ws-aaaaaaaaaaaa reset in 45 ms, 1.5 MB, exit 1 · Ran 1 test in 0.001s\ncreated: now'
    const other = 'ws-bbbbbbbbbbbb reset in 1 m 2 s, 900 B, exit 1 · Ran 1 test in 2.000s\ncreated: 3 s ago'
    expect(withoutMeasures(one)).toBe(withoutMeasures(other))
    expect(withoutMeasures('exit 1')).not.toBe(withoutMeasures('exit 2'))
    expect(withoutMeasures('3 files')).not.toBe(withoutMeasures('4 files'))
  })
})
