import { z } from 'zod'
import { snapshotRef, workspaceRef } from '../../model/names.ts'
import { defineOperation } from '../../operation.ts'

export const snapshotDelete = defineOperation({
  id: 'workspace.snapshot.delete',
  summary: 'Delete a named snapshot; the baseline cannot be deleted',
  kind: 'unary',
  mutates: true,
  input: z.strictObject({ workspace: workspaceRef, name: snapshotRef }),
  result: z.object({ workspaceId: z.string(), deleted: z.string() }),
  errors: ['workspace.not-found', 'workspace.busy', 'workspace.wrong-phase', 'snapshot.not-found', 'snapshot.reserved'],
  http: { method: 'DELETE', path: '/v1/workspaces/{workspace}/snapshots/{name}' },
  sdk: { method: 'workspace.snapshots.delete' },
  cli: {
    words: ['workspace', 'snapshot', 'delete'],
    positionals: [
      { field: 'workspace', label: 'WS', required: true, summary: 'workspace', completes: 'workspace' },
      { field: 'name', label: 'NAME', required: true, summary: 'snapshot', completes: 'snapshot' },
    ],
    options: [],
    examples: [{ line: 'pyro workspace snapshot delete fix green', note: '' }],
  },
  mcp: { tool: 'snapshot_delete', profiles: ['full'] },
})
