import { z } from 'zod'
import { labels, someSpanMs } from '../../model/common.ts'
import { workspaceRecord } from '../../model/workspace.ts'
import { workspaceName, workspaceRef } from '../../model/names.ts'
import { defineOperation } from '../../operation.ts'

export const workspaceUpdate = defineOperation({
  id: 'workspace.update',
  summary: 'Change the name, labels or time to live of a workspace',
  kind: 'unary',
  mutates: true,
  input: z.strictObject({
    workspace: workspaceRef,
    name: workspaceName.optional(),
    labels: labels.default({}),
    clearLabels: z.array(z.string()).default([]),
    /** From now; null: it never expires. */
    ttlMs: someSpanMs.nullable().optional(),
  }),
  result: workspaceRecord,
  errors: ['workspace.not-found', 'workspace.name-taken', 'workspace.busy', 'limit.exceeded'],
  http: { method: 'PATCH', path: '/v1/workspaces/{workspace}' },
  sdk: { method: 'workspace.update' },
  cli: {
    words: ['workspace', 'update'],
    positionals: [{ field: 'workspace', label: 'WS', required: true, summary: 'workspace', completes: 'workspace' }],
    options: [
      { flag: 'name', field: 'name', type: 'string', value: 'N', summary: 'new name' },
      { flag: 'label', field: 'labels', type: 'key-value', value: 'K=V', summary: 'set a label, repeatable' },
      { flag: 'clear-label', field: 'clearLabels', type: 'list', value: 'K', summary: 'remove a label, repeatable' },
      {
        flag: 'ttl',
        field: 'ttlMs',
        type: 'duration',
        value: 'D',
        summary: 'delete it this much time from now; "none": never',
      },
    ],
    examples: [{ line: 'pyro workspace update fix --label owner=ann', note: '' }],
  },
  mcp: { tool: 'workspace_update', profiles: ['full'] },
})
