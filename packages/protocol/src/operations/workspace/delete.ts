import { z } from 'zod'
import { labels } from '../../model/common.ts'
import { deleteResult } from '../../model/workspace.ts'
import { workspaceRef } from '../../model/names.ts'
import { defineOperation } from '../../operation.ts'

export const workspaceDelete = defineOperation({
  id: 'workspace.delete',
  summary: 'Delete workspaces with their disks and snapshots, for ever',
  kind: 'unary',
  mutates: true,
  input: z.strictObject({
    workspaces: z.array(workspaceRef).default([]),
    /** Every workspace, or every one with these labels. */
    all: z.boolean().default(false),
    labels: labels.default({}),
    /** Unknown ones are no error. */
    ifExists: z.boolean().default(false),
  }),
  result: deleteResult,
  errors: ['workspace.not-found', 'workspace.busy'],
  http: { method: 'POST', path: '/v1/workspaces/delete' },
  sdk: { method: 'workspace.delete' },
  cli: {
    words: ['workspace', 'delete'],
    positionals: [
      {
        field: 'workspaces',
        label: 'WS',
        required: false,
        variadic: true,
        summary: 'workspaces',
        completes: 'workspace',
      },
    ],
    options: [
      { flag: 'all', field: 'all', type: 'boolean', summary: 'every workspace' },
      {
        flag: 'label',
        field: 'labels',
        type: 'key-value',
        value: 'K=V',
        summary: 'with --all: only those with this label',
      },
      { flag: 'if-exists', field: 'ifExists', type: 'boolean', summary: 'unknown ones are no error' },
      { flag: 'yes', field: null, type: 'boolean', summary: 'do not ask' },
    ],
    examples: [{ line: 'pyro workspace delete fix', note: '' }],
  },
  mcp: {
    tool: 'workspace_delete',
    profiles: ['core', 'full'],
    description: 'Delete a workspace with its snapshots, for ever.',
    destructive: true,
    input: z.strictObject({ workspace: z.string() }),
  },
})
