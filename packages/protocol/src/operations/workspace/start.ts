import { z } from 'zod'
import { workspaceRecord } from '../../model/workspace.ts'
import { workspaceRef } from '../../model/names.ts'
import { defineOperation } from '../../operation.ts'

export const workspaceStart = defineOperation({
  id: 'workspace.start',
  summary: 'Start a stopped or failed workspace on its own disk',
  kind: 'unary',
  mutates: true,
  input: z.strictObject({ workspace: workspaceRef }),
  result: workspaceRecord,
  errors: [
    'workspace.not-found',
    'workspace.busy',
    'workspace.wrong-phase',
    'workspace.start-failed',
    'workspace.lost',
    'limit.exceeded',
  ],
  http: { method: 'POST', path: '/v1/workspaces/{workspace}/start' },
  sdk: { method: 'workspace.start' },
  cli: {
    words: ['workspace', 'start'],
    positionals: [{ field: 'workspace', label: 'WS', required: true, summary: 'workspace', completes: 'workspace' }],
    options: [],
    examples: [{ line: 'pyro workspace start fix', note: '' }],
  },
  mcp: { tool: 'workspace_start', profiles: ['full'] },
})
