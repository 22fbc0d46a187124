import { z } from 'zod'
import { guestPath } from '../../model/common.ts'
import { fileType } from '../../model/diff.ts'
import { CURRENT, name, workspaceRef } from '../../model/names.ts'
import { defineOperation } from '../../operation.ts'

export const workspaceExport = defineOperation({
  id: 'workspace.export',
  summary: 'Copy a file or folder out of a workspace',
  description:
    'The stream is a tar whose first entry is the file or folder itself, named by its last path part. Works on running, stopped and failed workspaces. The client writes it to the host safely.',
  kind: 'stream',
  mutates: false,
  input: z.strictObject({
    workspace: workspaceRef,
    /** Absolute, or relative to /workspace. */
    path: guestPath,
    /** A snapshot instead of the present state. */
    snapshot: name.default(CURRENT),
  }),
  download: 'a tar',
  event: z.object({ type: z.literal('entry'), path: z.string(), fileType: fileType }),
  result: z.object({
    path: z.string(),
    type: fileType,
    files: z.int(),
    bytes: z.int(),
    gitHooks: z.boolean(),
    skipped: z.int(),
  }),
  errors: [
    'workspace.not-found',
    'workspace.busy',
    'workspace.lost',
    'snapshot.not-found',
    'path.not-found',
    'path.outside-root',
    'disk.full',
  ],
  http: { method: 'POST', path: '/v1/workspaces/{workspace}/export' },
  sdk: { method: 'workspace.export' },
  cli: {
    words: ['workspace', 'export'],
    positionals: [
      { field: 'workspace', label: 'WS', required: true, summary: 'workspace', completes: 'workspace' },
      { field: 'path', label: 'PATH', required: true, summary: 'file or folder inside' },
    ],
    options: [
      {
        flag: 'output',
        field: null,
        type: 'string',
        value: 'HOST',
        completes: 'path',
        summary: 'where to write it; - is standard output',
      },
      {
        flag: 'format',
        field: null,
        type: 'string',
        value: 'F',
        choices: ['files', 'tar'],
        default: 'files',
        summary: 'as files, or as one tar',
      },
      { flag: 'force', field: null, type: 'boolean', summary: 'overwrite what it brings; nothing is removed' },
      {
        flag: 'snapshot',
        field: 'snapshot',
        type: 'string',
        value: 'NAME',
        completes: 'snapshot',
        summary: 'from this snapshot',
      },
    ],
    examples: [{ line: 'pyro workspace export fix dist --output ./dist', note: '' }],
  },
  mcp: {
    tool: 'workspace_export',
    profiles: ['core', 'full'],
    description: 'Copy a file or folder out of the workspace.',
    readOnly: false,
    destructive: true,
    input: z.strictObject({
      workspace: z.string(),
      path: z.string().describe('in the workspace'),
      output: z.string().describe('in the project; its folder must exist'),
      force: z.boolean().optional().describe('overwrite'),
    }),
  },
})
