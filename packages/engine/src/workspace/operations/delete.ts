import type { Sandbox } from '../../driver/driver.ts'
import { runSteps, type StepList } from '../../lib/steps.ts'
import { removeLogFolder } from '../../store/command-logs.ts'
import type { Store } from '../../store/store.ts'
import { DELETED, EXPIRED } from '../commands/command-result.ts'
import { endSandbox } from '../sandbox-life.ts'
import { volumeId, type Call, type Services } from '../services.ts'
import { commandLogFolder, type Workspace } from '../workspace.ts'

export interface DeletePlan {
  readonly workspaceId: string
  readonly name: string
  /** Nobody asked for it: its time to live has passed. */
  readonly expired: boolean
  /** Named ones, which go with it. */
  readonly snapshots: number
  readonly driver: string
  readonly sandboxIds: readonly string[]
  /** The present disk last: as long as it is there, its sandbox may be. */
  readonly volumes: readonly string[]
}

interface DeleteContext {
  readonly services: Services
  readonly workspace: Workspace | null
  readonly sandbox: Sandbox | null
}

export const DELETE_STEPS: StepList<DeletePlan, DeleteContext> = {
  operation: 'workspace.delete',
  recovery: 'finish',
  steps: [
    {
      name: 'interrupt-commands',
      async do(plan, cx) {
        cx.workspace?.stopLooks()
        const by = plan.expired ? EXPIRED : DELETED
        await cx.workspace?.commands.interruptAll({ by, limit: null })
      },
    },
    {
      name: 'end-sandboxes',
      async do(plan, cx) {
        await cx.services.releaser.settled(plan.workspaceId)
        for (const id of plan.sandboxIds) {
          const handle = cx.sandbox?.record.spec.sandboxId === id ? cx.sandbox : null
          await endSandbox(cx.services, id, handle)
        }
      },
    },
    {
      name: 'remove-volumes',
      async do(plan, cx) {
        const { disks } = cx.services.drivers.get(plan.driver)
        for (const volume of plan.volumes) {
          await cx.services.pins.free(volume)
          await disks.remove(volumeId(volume))
        }
      },
    },
    {
      name: 'remove-logs',
      async do(plan, cx) {
        await removeLogFolder(commandLogFolder(cx.services.config.home), plan.workspaceId)
      },
    },
  ],
}

/** The end of a delete, in a transaction: a repeated call learns what the first one deleted. */
export const recordDeleted = (store: Store, plan: DeletePlan, requestId: string | null): void => {
  const { workspaceId, name, snapshots } = plan
  store.workspaces.delete(workspaceId)
  store.intents.forget(workspaceId)
  if (requestId !== null) {
    store.requests.putPart(requestId, workspaceId, DELETE_STEPS.operation, { workspaceId, name, snapshots })
  }
}

/** In a turn. When it fails the workspace is `failed` and can be deleted again. Returns how many snapshots went with it. */
export const deleteWorkspace = async (
  workspace: Workspace,
  call: Call,
  { expired = false }: { readonly expired?: boolean } = {},
): Promise<number> => {
  const { services } = workspace
  const { store } = services
  const { row } = workspace
  const snapshots = store.snapshots.of(row.id)
  const { sandbox } = workspace
  const plan: DeletePlan = {
    workspaceId: row.id,
    name: row.name,
    expired,
    snapshots: snapshots.filter(({ kind }) => kind === 'named').length,
    driver: row.driver,
    sandboxIds: store.sandboxes
      .all()
      .filter(({ workspaceId }) => workspaceId === row.id)
      .map(({ id }) => id),
    volumes: [...snapshots.map(({ volume }) => volume), row.volume],
  }
  await runSteps({
    list: DELETE_STEPS,
    subject: row.id,
    plan,
    context: { services, workspace, sandbox },
    requestId: call.requestId,
    signal: call.signal,
    intents: store.intents,
    fault: services.fault,
    log: workspace.log,
    begin: () => {
      workspace.change({ phase: 'deleting' })
      workspace.detach()
    },
    commit: () => recordDeleted(store, plan, call.requestId),
    undone: (error) => {
      const message = error instanceof Error ? error.message : String(error)
      workspace.change({
        phase: 'failed',
        failure: {
          code: 'internal',
          message: `delete failed: ${message}`,
          hint: `pyro workspace delete ${row.name}`,
        },
      })
    },
  })
  workspace.retire()
  return plan.snapshots
}
