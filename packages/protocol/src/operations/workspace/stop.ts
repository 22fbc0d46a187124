import { z } from 'zod'
import { workspaceRecord } from '../../model/workspace.ts'
import { workspaceRef } from '../../model/names.ts'
import { defineOperation } from '../../operation.ts'

export const workspaceStop = defineOperation({
  id: 'workspace.stop',
  summary: 'Flush and stop a workspace; disk, history and snapshots stay',
  kind: 'unary',
  mutates: true,
  input: z.strictObject({ workspace: workspaceRef }),
  result: workspaceRecord,
  errors: ['workspace.not-found', 'workspace.busy', 'workspace.wrong-phase'],
  http: { method: 'POST', path: '/v1/workspaces/{workspace}/stop' },
  sdk: { method: 'workspace.stop' },
  cli: {
    words: ['workspace', 'stop'],
    positionals: [{ field: 'workspace', label: 'WS', required: true, summary: 'workspace', completes: 'workspace' }],
    options: [],
    examples: [{ line: 'pyro workspace stop fix', note: '' }],
  },
  mcp: { tool: 'workspace_stop', profiles: ['full'] },
})
