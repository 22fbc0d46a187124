import { z } from 'zod'
import { workspaceRecord } from '../../model/workspace.ts'
import { workspaceRef } from '../../model/names.ts'
import { defineOperation } from '../../operation.ts'

export const workspaceStatus = defineOperation({
  id: 'workspace.status',
  summary: 'Show one workspace: phase, limits, snapshots, last command, failure',
  kind: 'unary',
  mutates: false,
  input: z.strictObject({ workspace: workspaceRef }),
  result: workspaceRecord,
  errors: ['workspace.not-found'],
  http: { method: 'GET', path: '/v1/workspaces/{workspace}' },
  sdk: { method: 'workspace.status' },
  cli: {
    words: ['workspace', 'status'],
    positionals: [{ field: 'workspace', label: 'WS', required: true, summary: 'workspace', completes: 'workspace' }],
    options: [],
    examples: [{ line: 'pyro workspace status fix', note: '' }],
  },
  mcp: { tool: 'workspace_status', profiles: ['full'] },
})
