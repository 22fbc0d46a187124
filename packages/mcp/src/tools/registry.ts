import type { OperationId } from '@pyro/protocol'
import type { Tool } from '../tool.ts'
import { commandWait } from './command-wait.ts'
import { fileRead, fileWrite } from './files.ts'
import { operationTool } from './generic.ts'
import { run } from './run.ts'
import { snapshotCreate, workspaceReset } from './snapshots.ts'
import { syncPush } from './sync-push.ts'
import { workspaceCreate } from './workspace-create.ts'
import { workspaceDelete } from './workspace-delete.ts'
import { workspaceDiff } from './workspace-diff.ts'
import { workspaceExec } from './workspace-exec.ts'
import { workspaceExport } from './workspace-export.ts'
import { workspaceList } from './workspace-list.ts'

/** Tools that are more than their operation; every other operation answers with its result as it is. */
const OWN = {
  'workspace.create': workspaceCreate,
  'workspace.list': workspaceList,
  'workspace.delete': workspaceDelete,
  'workspace.exec': workspaceExec,
  'workspace.command.wait': commandWait,
  'workspace.snapshot.create': snapshotCreate,
  'workspace.reset': workspaceReset,
  'workspace.diff': workspaceDiff,
  'workspace.sync.push': syncPush,
  'workspace.export': workspaceExport,
  'workspace.file.read': fileRead,
  'workspace.file.write': fileWrite,
  run,
} as const

/** The input was checked against the schema of the tool's own facet, so it has the type the tool declares. */
export const toolFor = (id: OperationId): Tool<unknown> =>
  ((OWN as Partial<Record<OperationId, unknown>>)[id] ?? operationTool(id)) as Tool<unknown>
