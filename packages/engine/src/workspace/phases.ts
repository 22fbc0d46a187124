import { PyroError, type Phase } from '@pyro/protocol'

/** What can be asked of an existing workspace, as far as its phase matters. */
export const ASKS = ['start', 'stop', 'reset', 'delete', 'update', 'use', 'snapshot', 'drop-snapshot', 'look'] as const
/**
 * - `use`: whatever needs the sandbox: exec, files, push
 * - `snapshot`: freezes the disk under a name
 * - `look`: diff and export of the present disk or a snapshot
 */
export type Ask = (typeof ASKS)[number]

/**
 * - `accept`: at once
 * - `wait`: the phase passes by itself
 * - `start`: start the sandbox first, then accept
 * - `reject`: this phase does not pass by itself and does not allow it
 */
export type Decision = 'accept' | 'wait' | 'start' | 'reject'

const passing = { creating: 'wait', starting: 'wait', stopping: 'wait', resetting: 'wait', deleting: 'wait' } as const

/** One line per ask, every phase in it: the compiler refuses a hole. */
const DECISIONS = {
  start: { ...passing, running: 'accept', stopped: 'accept', failed: 'accept' },
  stop: { ...passing, running: 'accept', stopped: 'accept', failed: 'accept' },
  reset: { ...passing, running: 'accept', stopped: 'accept', failed: 'accept' },
  delete: { ...passing, running: 'accept', stopped: 'accept', failed: 'accept' },
  update: { ...passing, running: 'accept', stopped: 'accept', failed: 'accept' },
  use: { ...passing, running: 'accept', stopped: 'start', failed: 'reject' },
  snapshot: { ...passing, running: 'accept', stopped: 'accept', failed: 'accept' },
  'drop-snapshot': { ...passing, running: 'accept', stopped: 'accept', failed: 'accept' },
  look: { ...passing, running: 'accept', stopped: 'accept', failed: 'accept' },
} as const satisfies Record<Ask, Record<Phase, Decision>>

export const decide = (ask: Ask, phase: Phase): Decision => DECISIONS[ask][phase]

/** Phases that pass by themselves: some operation is under way. */
export const isPassing = (phase: Phase): boolean => phase in passing

export const wrongPhase = (name: string, ask: string, phase: Phase): PyroError =>
  new PyroError('workspace.wrong-phase', `"${name}" is ${phase}, which does not allow ${ask}; nothing was changed`, {
    hint: `pyro workspace start ${name}, or pyro workspace reset ${name}`,
    data: { phase },
  })
