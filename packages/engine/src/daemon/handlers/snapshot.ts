import type { ResultOf } from '@pyro/protocol'
import { findSnapshot } from '../../snapshot/snapshots.ts'
import type { SnapshotRow } from '../../store/snapshots.ts'
import { createSnapshot, deleteSnapshot } from '../../workspace/operations/snapshot.ts'
import { snapshotRecord } from '../../workspace/record.ts'
import { volumeId } from '../../workspace/services.ts'
import type { Workspace } from '../../workspace/workspace.ts'
import type { Handlers } from '../handler.ts'

export const snapshotHandlers = {
  'workspace.snapshot.create': (call) => {
    const workspace = call.engine.workspaces.get(call.input.workspace)
    return workspace.turn('snapshot', 'snapshot create', call.signal, () => createSnapshot(workspace, call.input, call))
  },

  'workspace.snapshot.list': async ({ engine, input }) => {
    const workspace = engine.workspaces.get(input.workspace)
    const rows = engine.services.store.snapshots.of(workspace.id)
    return { snapshots: await Promise.all(rows.map((row) => recordOf(workspace, row))) }
  },

  'workspace.snapshot.inspect': async ({ engine, input }) => {
    const workspace = engine.workspaces.get(input.workspace)
    const snapshots = engine.services.store.snapshots.of(workspace.id)
    const row = findSnapshot({ name: workspace.row.name, snapshots }, input.name)
    return { ...(await recordOf(workspace, row)), workspaceId: workspace.id }
  },

  'workspace.snapshot.delete': (call) => {
    const workspace = call.engine.workspaces.get(call.input.workspace)
    return workspace.turn('drop-snapshot', 'snapshot delete', call.signal, () =>
      Promise.resolve(deleteSnapshot(workspace, call.input.name)),
    )
  },
} satisfies Partial<Handlers>

const recordOf = async (
  workspace: Workspace,
  row: SnapshotRow,
): Promise<ResultOf<'workspace.snapshot.list'>['snapshots'][number]> => {
  const { ownedBytes } = await workspace.driver.disks.usage(volumeId(row.volume))
  return snapshotRecord(workspace.row, row, ownedBytes)
}
