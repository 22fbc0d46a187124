import { PHASES, type Phase } from '@pyro/protocol'
import { describe, expect, test } from 'vitest'
import { ASKS, decide, isPassing } from './phases.ts'

describe('the phase table', () => {
  test('decides every ask in every phase', () => {
    const decisions = ASKS.flatMap((ask) => PHASES.map((phase) => decide(ask, phase)))
    expect(new Set(decisions)).toEqual(new Set(['accept', 'wait', 'start', 'reject']))
  })

  test('lets everything wait in a phase that passes, and nothing in one that does not', () => {
    for (const ask of ASKS) {
      for (const phase of PHASES) expect(decide(ask, phase) === 'wait').toBe(isPassing(phase))
    }
  })

  test('has a way out of every phase that does not pass', () => {
    const settled: readonly Phase[] = ['running', 'stopped', 'failed']
    for (const phase of settled) {
      for (const ask of ['start', 'stop', 'reset', 'delete'] as const) expect(decide(ask, phase)).toBe('accept')
    }
  })

  test('starts a stopped workspace for whatever needs its sandbox', () => {
    expect(decide('use', 'stopped')).toBe('start')
    expect(decide('look', 'stopped')).toBe('accept')
  })
})
