import type { Sandbox, SandboxRecord } from '../driver/driver.ts'
import { errorFields } from '../lib/log.ts'
import { undoSteps } from '../lib/steps.ts'
import type { IntentRow } from '../store/intents.ts'
import { leaveToReleaser } from './leftovers.ts'
import { CREATE_STEPS, createLeftovers, createSteps, type CreatePlan } from './operations/create.ts'
import { DELETE_STEPS, recordDeleted, type DeletePlan } from './operations/delete.ts'
import { RESET_STEPS, resetLeftovers, type ResetPlan } from './operations/reset.ts'
import { SNAPSHOT_STEPS, snapshotLeftovers, type SnapshotPlan } from './operations/snapshot.ts'
import { START_STEPS, startLeftovers, type StartPlan } from './operations/start.ts'
import { STOP_STEPS, type StopPlan } from './operations/stop.ts'
import { ADOPT_DEADLINE_MS } from './sandbox-life.ts'
import { ownCall, type Services } from './services.ts'
import type { Workspace } from './workspace.ts'

/** What is left of a workspace after its intent was recovered. */
export type Recovered = 'kept' | 'gone'

/**
 * Undoes or finishes what a killed engine had begun. `workspace` is null for a create that had not recorded it yet. Safe to
 * repeat: the intent goes in the transaction that ends the recovery.
 */
export const recoverIntent = async (
  services: Services,
  intent: IntentRow,
  workspace: Workspace | null,
): Promise<Recovered> => {
  const { store, log } = services
  const { operation, step, id } = intent
  const run = { fault: services.fault, log }
  log.info({ operation, step, workspace: intent.subject }, 'recovering')
  switch (operation) {
    case CREATE_STEPS.operation: {
      const plan = intent.plan as CreatePlan
      const context = { services, live: null, volume: null, sandbox: null, seeded: { files: 0, bytes: 0 } }
      const list = createSteps(services.drivers.get(plan.row.driver), plan)
      const outcome = await undoSteps({ ...run, list, plan, context }, step)
      store.intents.end(id, () => {
        store.workspaces.delete(intent.subject)
        if (outcome === 'left') leaveToReleaser(services, createLeftovers(plan), null)
      })
      return 'gone'
    }
    case START_STEPS.operation: {
      const plan = intent.plan as StartPlan
      const context = { services, live: null, sandbox: null }
      const outcome = await undoSteps({ ...run, list: START_STEPS, plan, context }, step)
      store.intents.end(id, () => {
        workspace?.change({ phase: plan.phaseBefore })
        if (outcome === 'left') leaveToReleaser(services, startLeftovers(plan), null)
      })
      return 'kept'
    }
    case SNAPSHOT_STEPS.operation: {
      const plan = intent.plan as SnapshotPlan
      const outcome = await undoSteps({ ...run, list: SNAPSHOT_STEPS, plan, context: { services, live: null } }, step)
      store.intents.end(id, () => {
        if (outcome === 'left') leaveToReleaser(services, snapshotLeftovers(plan), null)
      })
      return 'kept'
    }
    case RESET_STEPS.operation: {
      const plan = intent.plan as ResetPlan
      const context = { services, live: null, volume: null, sandbox: null }
      const outcome = await undoSteps({ ...run, list: RESET_STEPS, plan, context }, step)
      store.intents.end(id, () => {
        workspace?.change({ phase: plan.phaseBefore })
        if (outcome === 'left') leaveToReleaser(services, resetLeftovers(plan), null)
      })
      return 'kept'
    }
    case STOP_STEPS.operation: {
      const plan = intent.plan as StopPlan
      const sandbox = await stillStopping(services, plan)
      for (const { do: work } of STOP_STEPS.steps) await work(plan, { services, workspace, sandbox })
      await workspace?.commands.recordAllLost('stop')
      store.intents.end(id, () => workspace?.change({ phase: 'stopped' }))
      return 'kept'
    }
    case DELETE_STEPS.operation: {
      const plan = intent.plan as DeletePlan
      for (const { do: work } of DELETE_STEPS.steps) await work(plan, { services, workspace, sandbox: null })
      store.intents.end(id, () => recordDeleted(store, plan, intent.requestId))
      return 'gone'
    }
    default:
      throw new Error(`an intent of the unknown operation ${operation}`)
  }
}

/** One that lives may still write out what it holds: it is ended in order. */
const stillStopping = async (
  services: Services,
  { sandboxId, driver: driverId }: StopPlan,
): Promise<Sandbox | null> => {
  const driver = services.drivers.get(driverId)
  const row = sandboxId === null ? null : services.store.sandboxes.get(sandboxId)
  if (row === null) return null
  try {
    return await driver.adopt(row.record as SandboxRecord, { signal: ownCall().signal, deadlineMs: ADOPT_DEADLINE_MS })
  } catch (error) {
    services.log.warn({ sandbox: sandboxId, ...errorFields(error) }, 'a stop is finished by force')
    return null
  }
}
