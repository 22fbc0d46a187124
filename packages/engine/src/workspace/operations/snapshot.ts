import { BASELINE, PyroError, type ResultOf } from '@pyro/protocol'
import { runSteps, type StepList } from '../../lib/steps.ts'
import { flushVolume, stillCopy, stillGuest, type CopyContext } from '../../driver/still-copy.ts'
import { admitSnapshot, findSnapshot } from '../../snapshot/snapshots.ts'
import type { SnapshotRow } from '../../store/snapshots.ts'
import { leaveToReleaser, type Leftovers } from '../leftovers.ts'
import { snapshotRecord } from '../record.ts'
import { volumeId, type Call, type Services } from '../services.ts'
import type { Workspace } from '../workspace.ts'
import { ownVolume } from './start.ts'

export interface SnapshotPlan {
  readonly workspaceId: string
  readonly driver: string
  readonly from: string
  readonly to: string
}

interface SnapshotContext {
  readonly services: Services
  readonly live: { readonly workspace: Workspace; readonly call: Call } | null
}

export const SNAPSHOT_STEPS: StepList<SnapshotPlan, SnapshotContext> = {
  operation: 'workspace.snapshot.create',
  recovery: 'undo',
  steps: [
    {
      name: 'flush',
      async do(plan, cx) {
        const { disks } = cx.services.drivers.get(plan.driver)
        await flushVolume(disks, volumeId(plan.from), copyContext(cx.live))
      },
    },
    {
      name: 'freeze',
      async do(plan, cx) {
        const { disks } = cx.services.drivers.get(plan.driver)
        const request = { from: volumeId(plan.from), to: volumeId(plan.to), group: plan.workspaceId }
        await stillCopy(disks, request, copyContext(cx.live))
      },
      async undo(plan, cx) {
        await cx.services.drivers.get(plan.driver).disks.remove(volumeId(plan.to))
      },
    },
  ],
}

/** Who writes to the disk of a workspace, while it is not a later engine that recovers. */
export const copyContext = (live: { readonly workspace: Workspace; readonly call: Call } | null): CopyContext => {
  const { sandbox } = live?.workspace ?? { sandbox: null }
  return {
    agent: sandbox === null || live === null ? null : stillGuest(live.workspace.driver, sandbox.agent),
    signal: live?.call.signal,
  }
}

export const snapshotLeftovers = ({ workspaceId, driver, to }: SnapshotPlan): Leftovers => ({
  workspaceId,
  driver,
  sandboxes: [],
  volumes: [to],
})

export const snapshotVolume = (workspaceId: string, serial: number): string => `${workspaceId}.s${serial}`

/** In a turn. */
export const createSnapshot = async (
  workspace: Workspace,
  request: { readonly name: string; readonly replace: boolean },
  call: Call,
): Promise<ResultOf<'workspace.snapshot.create'>> => {
  const { services } = workspace
  const { store, config } = services
  const startedAt = performance.now()
  const before = workspace.row
  const owner = { name: before.name, snapshots: store.snapshots.of(before.id) }
  const replaced = admitSnapshot(owner, request, config.limits.snapshotsPerWorkspace)
  await ownVolume(workspace)
  const plan: SnapshotPlan = {
    workspaceId: before.id,
    driver: before.driver,
    from: before.volume,
    to: snapshotVolume(before.id, before.nextSerial),
  }
  workspace.change({ nextSerial: before.nextSerial + 1 })
  const { result, given } = await runSteps({
    list: SNAPSHOT_STEPS,
    subject: before.id,
    plan,
    context: { services, live: { workspace, call } },
    requestId: call.requestId,
    signal: call.signal,
    intents: store.intents,
    fault: services.fault,
    log: workspace.log,
    undone: (_error, outcome) => {
      if (outcome === 'left') leaveToReleaser(services, snapshotLeftovers(plan), null)
    },
    commit: () => {
      const row = namedSnapshot(before.id, request.name, plan.to)
      store.snapshots.put(row)
      const given = replaced === null ? [] : [giveVolume(workspace, replaced.volume)]
      workspace.change({ activityAt: Date.now() })
      const result = {
        ...snapshotRecord(workspace.row, row, null),
        workspaceId: before.id,
        durationMs: Math.round(performance.now() - startedAt),
        replaced: replaced !== null,
      }
      if (call.requestId !== null) store.requests.put(call.requestId, SNAPSHOT_STEPS.operation, { result })
      return { result, given }
    },
  })
  services.releaser.schedule(given)
  return result
}

export const namedSnapshot = (workspaceId: string, name: string, volume: string): SnapshotRow => ({
  workspaceId,
  name,
  kind: 'named',
  volume,
  createdAt: Date.now(),
})

/** Inside a transaction. */
export const giveVolume = (workspace: Workspace, volume: string): ReturnType<Services['releaser']['give']> =>
  workspace.services.releaser.give(workspace.id, { kind: 'volume', driver: workspace.row.driver, volume })

/** In a turn. */
export const deleteSnapshot = (workspace: Workspace, name: string): ResultOf<'workspace.snapshot.delete'> => {
  const { store, releaser } = workspace.services
  if (name === BASELINE) {
    throw new PyroError(
      'snapshot.reserved',
      `the baseline of "${workspace.row.name}" cannot be deleted; nothing was changed`,
      { hint: `pyro workspace delete ${workspace.row.name} deletes the workspace with it` },
    )
  }
  const owner = { name: workspace.row.name, snapshots: store.snapshots.of(workspace.id) }
  const snapshot = findSnapshot(owner, name)
  const given = store.transaction(() => {
    store.snapshots.delete(workspace.id, snapshot.name)
    return giveVolume(workspace, snapshot.volume)
  })
  releaser.schedule([given])
  return { workspaceId: workspace.id, deleted: snapshot.name }
}
