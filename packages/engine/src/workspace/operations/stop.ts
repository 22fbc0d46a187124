import type { WorkspaceRecord } from '@pyro/protocol'
import type { Sandbox } from '../../driver/driver.ts'
import { errorFields } from '../../lib/log.ts'
import { runSteps, type StepList } from '../../lib/steps.ts'
import { cutOffFailure } from '../sandbox-failure.ts'
import { endSandbox } from '../sandbox-life.ts'
import { volumeId, type Call, type Services } from '../services.ts'
import type { Workspace } from '../workspace.ts'

/** From TERM to KILL for what runs inside. */
const STOP_GRACE_MS = 3_000

export interface StopPlan {
  readonly workspaceId: string
  readonly sandboxId: string | null
  readonly driver: string
  readonly volume: string
}

interface StopContext {
  readonly services: Services
  readonly workspace: Workspace | null
  readonly sandbox: Sandbox | null
}

export const STOP_STEPS: StepList<StopPlan, StopContext> = {
  operation: 'workspace.stop',
  recovery: 'finish',
  steps: [
    {
      name: 'interrupt-commands',
      async do(_plan, cx) {
        await cx.workspace?.commands.interruptAll({ by: 'stop', limit: null })
      },
    },
    {
      name: 'stop-sandbox',
      async do(_plan, cx) {
        if (cx.sandbox === null) return
        const inOrder = await cx.sandbox.shutDown({ graceMs: STOP_GRACE_MS })
        // Written down before anything is forced: the engine that finishes this stop may find nobody to ask.
        cx.workspace?.change({ failure: inOrder ? null : cutOffFailure(cx.workspace.row) })
      },
    },
    {
      name: 'end-sandbox',
      async do(plan, cx) {
        await endSandbox(cx.services, plan.sandboxId, cx.sandbox)
      },
    },
    {
      name: 'flush',
      async do(plan, cx) {
        const { disks } = cx.services.drivers.get(plan.driver)
        if ((await disks.find(volumeId(plan.volume))) !== null) await disks.flush(volumeId(plan.volume))
      },
    },
  ],
}

/**
 * In a turn. Stopped already is fine; a failed workspace loses what is left of its sandbox. One that does not end in order is cut off,
 * which the record then says.
 */
export const stopWorkspace = async (workspace: Workspace, call: Call): Promise<WorkspaceRecord> => {
  const { services } = workspace
  const before = workspace.row
  if (before.phase === 'stopped') return workspace.record()
  const { sandbox } = workspace
  const plan: StopPlan = {
    workspaceId: before.id,
    sandboxId: sandbox?.record.spec.sandboxId ?? null,
    driver: before.driver,
    volume: before.volume,
  }
  return runSteps({
    list: STOP_STEPS,
    subject: before.id,
    plan,
    context: { services, workspace, sandbox },
    requestId: call.requestId,
    signal: call.signal,
    intents: services.store.intents,
    fault: services.fault,
    log: workspace.log,
    begin: () => {
      workspace.change({ phase: 'stopping', failure: null })
      workspace.detach()
    },
    commit: () => {
      workspace.change({ phase: 'stopped' })
      return workspace.record()
    },
    undone: (error) => {
      const message = error instanceof Error ? error.message : String(error)
      workspace.log.error(errorFields(error), 'a stop failed')
      workspace.change({
        phase: 'failed',
        failure: { code: 'internal', message: `stop failed: ${message}; the disk is kept`, hint: null },
      })
    },
  })
}
