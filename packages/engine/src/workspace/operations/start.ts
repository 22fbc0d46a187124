import { PyroError, type Phase, type WorkspaceRecord } from '@pyro/protocol'
import type { Volume } from '../../disk/disk-store.ts'
import type { Sandbox } from '../../driver/driver.ts'
import { runSteps, type StepList } from '../../lib/steps.ts'
import { leaveToReleaser, type Leftovers } from '../leftovers.ts'
import { endSandbox, newToken, sandboxIdOf, startSandbox } from '../sandbox-life.ts'
import { explainStart, startFailureKept } from '../sandbox-failure.ts'
import { volumeId, type Call, type Services } from '../services.ts'
import type { Workspace } from '../workspace.ts'

export interface StartPlan {
  readonly workspaceId: string
  readonly driver: string
  readonly phaseBefore: Phase
  readonly generation: number
  readonly token: string
}

interface StartContext {
  readonly services: Services
  /** Null while a later engine undoes. */
  readonly live: { readonly workspace: Workspace; readonly volume: Volume; readonly call: Call } | null
  sandbox: Sandbox | null
}

export const START_STEPS: StepList<StartPlan, StartContext> = {
  operation: 'workspace.start',
  recovery: 'undo',
  steps: [
    {
      name: 'start-sandbox',
      async do(plan, cx) {
        if (cx.live === null) return
        const { workspace, volume, call } = cx.live
        const { name } = workspace.row
        const start = async (): Promise<void> => {
          cx.sandbox = await startSandbox(cx.services, workspace.row, plan, volume, call)
        }
        await explainStart(name, `it is ${plan.phaseBefore} as before`, start, {
          hint: `pyro doctor, pyro daemon logs; should its disk be damaged: pyro workspace reset ${name}`,
        })
      },
      async undo(plan, cx) {
        await endSandbox(cx.services, sandboxIdOf(plan.workspaceId, plan.generation), cx.sandbox)
      },
    },
  ],
}

export const startLeftovers = ({ workspaceId, driver, generation }: StartPlan): Leftovers => ({
  workspaceId,
  driver,
  sandboxes: [sandboxIdOf(workspaceId, generation)],
  volumes: [],
})

/** In a turn: a stopped or failed workspace on its own disk. Running already is fine. */
export const startWorkspace = async (workspace: Workspace, call: Call): Promise<WorkspaceRecord> => {
  const { services } = workspace
  const before = workspace.row
  if (before.phase === 'running') return workspace.record()
  const volume = await ownVolume(workspace)
  const plan: StartPlan = {
    workspaceId: before.id,
    driver: before.driver,
    phaseBefore: before.phase,
    generation: before.nextGeneration,
    token: newToken(),
  }
  const context: StartContext = { services, live: { workspace, volume, call }, sandbox: null }
  return runSteps({
    list: START_STEPS,
    subject: before.id,
    plan,
    context,
    requestId: call.requestId,
    signal: call.signal,
    intents: services.store.intents,
    fault: services.fault,
    log: workspace.log,
    begin: () => workspace.change({ phase: 'starting', nextGeneration: plan.generation + 1 }),
    commit: () => {
      workspace.change({ phase: 'running', generation: plan.generation, failure: null })
      if (context.sandbox !== null) workspace.attach(context.sandbox)
      return workspace.record()
    },
    undone: (error, outcome) => {
      workspace.change({ phase: before.phase, failure: startFailureKept(before.failure, error, call.signal) })
      if (outcome === 'left') leaveToReleaser(services, startLeftovers(plan), context.sandbox)
    },
  })
}

/** The writable volume; a workspace that lost it can be reset or deleted, nothing else. */
export const ownVolume = async (workspace: Workspace): Promise<Volume> => {
  const { row } = workspace
  const volume = await workspace.driver.disks.find(volumeId(row.volume))
  if (volume !== null) return volume
  const hint = `pyro workspace reset ${row.name}, or pyro workspace delete ${row.name}`
  const lost = new PyroError('workspace.lost', `the disk ${row.volume} of "${row.name}" is gone`, { hint })
  workspace.change({ phase: 'failed', failure: { code: lost.code, message: lost.message, hint } })
  throw lost
}
