import type { z } from 'zod'
import type { McpFacet } from './operation.ts'
import { commandKill } from './operations/command/kill.ts'
import { commandList } from './operations/command/list.ts'
import { commandWait } from './operations/command/wait.ts'
import { requestCancel } from './operations/engine/cancel.ts'
import { doctor } from './operations/engine/doctor.ts'
import { engineShutdown } from './operations/engine/shutdown.ts'
import { engineStatus } from './operations/engine/status.ts'
import { environmentImport } from './operations/environment/import.ts'
import { environmentInspect } from './operations/environment/inspect.ts'
import { environmentList } from './operations/environment/list.ts'
import { environmentPrune } from './operations/environment/prune.ts'
import { environmentPull } from './operations/environment/pull.ts'
import { environmentRemove } from './operations/environment/remove.ts'
import { fileRead } from './operations/file/read.ts'
import { fileWrite } from './operations/file/write.ts'
import { run } from './operations/run.ts'
import { snapshotCreate } from './operations/snapshot/create.ts'
import { snapshotDelete } from './operations/snapshot/delete.ts'
import { snapshotInspect } from './operations/snapshot/inspect.ts'
import { snapshotList } from './operations/snapshot/list.ts'
import { syncPush } from './operations/sync/push.ts'
import { workspaceCreate } from './operations/workspace/create.ts'
import { workspaceDelete } from './operations/workspace/delete.ts'
import { workspaceDiff } from './operations/workspace/diff.ts'
import { workspaceExec } from './operations/workspace/exec.ts'
import { workspaceExport } from './operations/workspace/export.ts'
import { workspaceList } from './operations/workspace/list.ts'
import { workspaceLogs } from './operations/workspace/logs.ts'
import { workspaceReset } from './operations/workspace/reset.ts'
import { workspaceStart } from './operations/workspace/start.ts'
import { workspaceStatus } from './operations/workspace/status.ts'
import { workspaceStop } from './operations/workspace/stop.ts'
import { workspaceUpdate } from './operations/workspace/update.ts'

/** Every operation of the contract, in the order of the docs. */
export const OPERATIONS = {
  'workspace.create': workspaceCreate,
  'workspace.list': workspaceList,
  'workspace.status': workspaceStatus,
  'workspace.update': workspaceUpdate,
  'workspace.delete': workspaceDelete,
  'workspace.stop': workspaceStop,
  'workspace.start': workspaceStart,
  'workspace.exec': workspaceExec,
  'workspace.command.list': commandList,
  'workspace.command.wait': commandWait,
  'workspace.command.kill': commandKill,
  'workspace.logs': workspaceLogs,
  'workspace.snapshot.create': snapshotCreate,
  'workspace.snapshot.list': snapshotList,
  'workspace.snapshot.inspect': snapshotInspect,
  'workspace.snapshot.delete': snapshotDelete,
  'workspace.reset': workspaceReset,
  'workspace.diff': workspaceDiff,
  'workspace.sync.push': syncPush,
  'workspace.export': workspaceExport,
  'workspace.file.read': fileRead,
  'workspace.file.write': fileWrite,
  run,
  'environment.list': environmentList,
  'environment.pull': environmentPull,
  'environment.import': environmentImport,
  'environment.inspect': environmentInspect,
  'environment.remove': environmentRemove,
  'environment.prune': environmentPrune,
  doctor,
  'engine.status': engineStatus,
  'engine.shutdown': engineShutdown,
  'request.cancel': requestCancel,
} as const

export type Operations = typeof OPERATIONS
export type OperationId = keyof Operations
/** What a caller passes (defaults optional). */
export type InputOf<Id extends OperationId> = z.input<Operations[Id]['input']>
/** What a handler receives (defaults filled in). */
export type ParsedInputOf<Id extends OperationId> = z.output<Operations[Id]['input']>
export type ResultOf<Id extends OperationId> = z.output<Operations[Id]['result']>
export type EventOf<Id extends OperationId> = Operations[Id] extends { readonly event?: infer E }
  ? NonNullable<E> extends z.ZodType
    ? z.output<NonNullable<E>>
    : never
  : never
/** What the MCP tool of an operation receives, defaults filled in. */
export type McpInputOf<Id extends OperationId> = Operations[Id]['mcp'] extends infer Facet
  ? Facet extends McpFacet<infer Input>
    ? z.output<Input>
    : never
  : never
