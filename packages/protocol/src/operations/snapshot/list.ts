import { z } from 'zod'
import { workspaceRef } from '../../model/names.ts'
import { snapshotRecord } from '../../model/workspace.ts'
import { defineOperation } from '../../operation.ts'

export const snapshotList = defineOperation({
  id: 'workspace.snapshot.list',
  summary: 'List the snapshots of a workspace, baseline first, then oldest first',
  kind: 'unary',
  mutates: false,
  input: z.strictObject({ workspace: workspaceRef }),
  result: z.object({ snapshots: z.array(snapshotRecord) }),
  errors: ['workspace.not-found'],
  http: { method: 'GET', path: '/v1/workspaces/{workspace}/snapshots' },
  sdk: { method: 'workspace.snapshots.list' },
  cli: {
    words: ['workspace', 'snapshot', 'list'],
    positionals: [{ field: 'workspace', label: 'WS', required: true, summary: 'workspace', completes: 'workspace' }],
    options: [{ flag: 'id-only', field: null, type: 'boolean', summary: 'print names alone' }],
    examples: [{ line: 'pyro workspace snapshot list fix', note: '' }],
  },
  mcp: { tool: 'snapshot_list', profiles: ['full'] },
})
