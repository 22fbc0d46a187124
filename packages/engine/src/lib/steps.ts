import { afterStep, afterUndo, beforeStep, beforeUndo, type FaultPlan } from './fault.ts'
import { errorFields, type Log } from './log.ts'

/**
 * Multi-step operations. A *plan* holds every name that the operation will make, chosen before anything is made; it is
 * committed with the intent, so a later engine can undo (or finish) what this one has begun. Each step is committed as begun
 * before it does anything: after a crash the step of the intent may be half done, those before it are done.
 *
 * Both `do` and `undo` may run more than once; `undo` must work when `do` never ran or stopped anywhere.
 */
export interface Step<Plan, Context> {
  readonly name: string
  do(plan: Plan, context: Context): Promise<void>
  /** Absent: the step leaves nothing that needs it. */
  undo?(plan: Plan, context: Context): Promise<void>
}

/** What happens to an operation that a crash interrupted: `undo` takes everything back, `finish` runs the rest. */
export type Recovery = 'undo' | 'finish'

export interface StepList<Plan, Context> {
  readonly operation: string
  readonly recovery: Recovery
  readonly steps: readonly Step<Plan, Context>[]
}

/** Name of the transaction that ends every operation; it can be faulted like a step. */
export const COMMIT_STEP = 'commit'

/** Where intents live. The store implements it. */
export interface IntentLog {
  /** Runs `work` and records the intent in one transaction. */
  begin(
    intent: { operation: string; subject: string; plan: unknown; requestId: string | null },
    work: () => void,
  ): number
  advance(id: number, step: number, plan: unknown): void
  /** Runs `work` and drops the intent in one transaction. */
  end<T>(id: number, work: () => T): T
  /** For what cannot be taken back: tried again while the host has no space. */
  insist<T>(work: () => T | Promise<T>): Promise<T>
}

/** `clean`: the world is as before. `left`: an undo failed, and what its step and those before it have made may be there. */
export type Undone = 'clean' | 'left'

export interface StepRun<Plan, Context, Result> {
  readonly list: StepList<Plan, Context>
  /** What the operation is about, e.g. a workspace id. */
  readonly subject: string
  readonly plan: Plan
  readonly context: Context
  readonly requestId: string | null
  readonly signal: AbortSignal
  readonly intents: IntentLog
  readonly fault: FaultPlan | null
  readonly log: Log
  /** Begun together with the intent, in one transaction with it, e.g. a phase. */
  readonly begin?: () => void
  /** The point of no return, in one transaction with the end of the intent. */
  readonly commit: () => Result
  /** The operation is over without its commit; runs in one transaction with the end of the intent. */
  readonly undone?: (error: unknown, outcome: Undone) => void
}

export const runSteps = async <Plan, Context, Result>(run: StepRun<Plan, Context, Result>): Promise<Result> => {
  const { list, intents, plan, signal } = run
  const intent = { operation: list.operation, subject: run.subject, plan, requestId: run.requestId }
  const id = intents.begin(intent, () => run.begin?.())
  const done = async <T>(work: () => T | Promise<T>): Promise<T> =>
    list.recovery === 'finish' ? intents.insist(work) : work()
  let at = 0
  try {
    for (const [index, step] of list.steps.entries()) {
      at = index
      if (list.recovery === 'undo') signal.throwIfAborted()
      await done(() => intents.advance(id, index, plan))
      await faulted(run, step.name, () => done(() => step.do(plan, run.context)))
    }
    return await faulted(run, COMMIT_STEP, () => done(() => intents.end(id, run.commit)))
  } catch (error) {
    const outcome = list.recovery === 'undo' ? await undoSteps(run, at) : 'clean'
    await intents.insist(() => intents.end(id, () => run.undone?.(error, outcome)))
    throw error
  }
}

const faulted = async <T>(
  run: Pick<StepRun<never, never, unknown>, 'fault' | 'signal'> & { readonly list: { readonly operation: string } },
  step: string,
  work: () => Promise<T>,
): Promise<T> => {
  const name = `${run.list.operation}/${step}`
  await beforeStep(run.fault, name, run.signal)
  const result = await work()
  afterStep(run.fault, name)
  return result
}

/**
 * Undoes the steps up to and including `last`, the newest first. It ends at an undo that fails: what earlier steps have made (a
 * disk) may still be used by what that one should have ended (a sandbox).
 */
export const undoSteps = async <Plan, Context>(
  run: {
    readonly list: StepList<Plan, Context>
    readonly plan: Plan
    readonly context: Context
    readonly fault: FaultPlan | null
    readonly log: Log
  },
  last: number,
): Promise<Undone> => {
  for (const step of run.list.steps.slice(0, last + 1).toReversed()) {
    const name = `${run.list.operation}/${step.name}`
    try {
      beforeUndo(run.fault, name)
      await step.undo?.(run.plan, run.context)
      afterUndo(run.fault, name)
    } catch (error) {
      run.log.error({ operation: run.list.operation, step: step.name, ...errorFields(error) }, 'undo failed')
      return 'left'
    }
  }
  return 'clean'
}
