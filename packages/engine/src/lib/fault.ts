import { PyroError } from '@pyro/protocol'
import { abortable } from './wait.ts'

/**
 * What a fault does: die before the step, die after it, fail it, or never return from it; or fail it when it is done and then die
 * when it is undone, or fail its undo.
 */
const FAULTS = ['kill', 'kill-after', 'fail', 'hang', 'kill-undo', 'fail-undo'] as const
type Fault = (typeof FAULTS)[number]

/** Makes one step of one operation go wrong, on purpose. Tests only. */
export interface FaultPlan {
  readonly step: string
  readonly fault: Fault
}

/** `operation/step:fault`, e.g. `workspace.create/clone:kill`. */
export const parseFault = (text: string | null): FaultPlan | null => {
  if (text === null || text === '') return null
  const at = text.lastIndexOf(':')
  const fault = FAULTS.find((known) => known === text.slice(at + 1))
  if (at < 0 || fault === undefined) {
    throw new PyroError('input.invalid', `PYRO_FAULT must be operation/step:${FAULTS.join('|')}, not ${text}`)
  }
  return { step: text.slice(0, at), fault }
}

export const beforeStep = async (plan: FaultPlan | null, step: string, signal: AbortSignal): Promise<void> => {
  if (plan?.step !== step) return
  if (plan.fault === 'kill') process.kill(process.pid, 'SIGKILL')
  if (plan.fault === 'fail') throw injected(step)
  if (plan.fault === 'hang') await abortable(new Promise<never>(() => undefined), signal)
}

export const afterStep = (plan: FaultPlan | null, step: string): void => {
  if (plan?.step !== step) return
  if (plan.fault === 'kill-after') process.kill(process.pid, 'SIGKILL')
  if (plan.fault === 'kill-undo' || plan.fault === 'fail-undo') throw injected(step)
}

export const beforeUndo = (plan: FaultPlan | null, step: string): void => {
  if (plan?.step === step && plan.fault === 'fail-undo') throw injected(`the undo of ${step}`)
}

export const afterUndo = (plan: FaultPlan | null, step: string): void => {
  if (plan?.step === step && plan.fault === 'kill-undo') process.kill(process.pid, 'SIGKILL')
}

const injected = (at: string): PyroError => new PyroError('internal', `fault injected at ${at}`)
