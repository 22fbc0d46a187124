import { z } from 'zod'
import { snapshotRef, workspaceRef } from '../../model/names.ts'
import { snapshotRecord } from '../../model/workspace.ts'
import { defineOperation } from '../../operation.ts'

export const snapshotInspect = defineOperation({
  id: 'workspace.snapshot.inspect',
  summary: 'Show one snapshot',
  kind: 'unary',
  mutates: false,
  input: z.strictObject({ workspace: workspaceRef, name: snapshotRef }),
  result: snapshotRecord.extend({ workspaceId: z.string() }),
  errors: ['workspace.not-found', 'snapshot.not-found'],
  http: { method: 'GET', path: '/v1/workspaces/{workspace}/snapshots/{name}' },
  sdk: { method: 'workspace.snapshots.inspect' },
  cli: {
    words: ['workspace', 'snapshot', 'inspect'],
    positionals: [
      { field: 'workspace', label: 'WS', required: true, summary: 'workspace', completes: 'workspace' },
      { field: 'name', label: 'NAME', required: true, summary: 'snapshot', completes: 'snapshot' },
    ],
    options: [],
    examples: [{ line: 'pyro workspace snapshot inspect fix green', note: '' }],
  },
  mcp: { tool: 'snapshot_inspect', profiles: ['full'] },
})
