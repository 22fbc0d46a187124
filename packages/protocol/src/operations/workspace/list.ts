import { z } from 'zod'
import { labels } from '../../model/common.ts'
import { workspaceRecord } from '../../model/workspace.ts'
import { workspaceRef } from '../../model/names.ts'
import { defineOperation } from '../../operation.ts'

export const workspaceList = defineOperation({
  id: 'workspace.list',
  summary: 'List workspaces, newest activity first',
  kind: 'unary',
  mutates: false,
  input: z.strictObject({ workspaces: z.array(workspaceRef).default([]), labels: labels.default({}) }),
  result: z.object({ workspaces: z.array(workspaceRecord) }),
  errors: ['workspace.not-found'],
  http: { method: 'POST', path: '/v1/workspaces/list' },
  sdk: { method: 'workspaces.list' },
  cli: {
    words: ['workspace', 'list'],
    positionals: [
      {
        field: 'workspaces',
        label: 'WS',
        required: false,
        variadic: true,
        summary: 'only these',
        completes: 'workspace',
      },
    ],
    options: [
      { flag: 'label', field: 'labels', type: 'key-value', value: 'K=V', summary: 'only those with this label' },
      { flag: 'id-only', field: null, type: 'boolean', summary: 'print ids alone' },
    ],
    examples: [{ line: 'pyro workspace list', note: '' }],
  },
  mcp: {
    tool: 'workspace_list',
    profiles: ['core', 'full'],
    description: 'Phase, snapshots, running commands and expiry of workspaces; to find one again.',
    input: z.strictObject({ workspace: z.string().optional() }),
  },
})
