import { PyroError } from '@pyro/protocol'
import { describe, expect, test } from 'vitest'
import { withNames } from './hint.ts'

const hintOf = (hint: string, input: unknown): string | null =>
  withNames(new PyroError('internal', 'x', { hint }), input).hint

describe('a hint', () => {
  test('names what the call named', () => {
    const input = { workspace: 'fix', commandId: 'cmd-aaaaaaaaaaaa' }
    expect(hintOf('pyro workspace command kill WS CMD', input)).toBe('pyro workspace command kill fix cmd-aaaaaaaaaaaa')
  })

  test('keeps the placeholder of what the call did not name', () => {
    expect(hintOf('pyro workspace exec WS -- CMD', { workspace: 'fix' })).toBe('pyro workspace exec fix -- CMD')
    expect(hintOf('pyro env inspect ENV', null)).toBe('pyro env inspect ENV')
  })

  test('never carries what a shell would read as something else', () => {
    expect(hintOf('pyro workspace status WS', { workspace: '$(reboot)' })).toBe('pyro workspace status WS')
    expect(hintOf('pyro workspace status WS', { workspace: '--all' })).toBe('pyro workspace status WS')
  })
})
