import { z } from 'zod'
import { guestPath, progress } from '../../model/common.ts'
import { workspaceRef } from '../../model/names.ts'
import { defineOperation } from '../../operation.ts'

export const syncPush = defineOperation({
  id: 'workspace.sync.push',
  summary: 'Copy host files into a running workspace',
  description:
    'The archive is staged and checked, then moved in. It shows up in the diff and never changes the baseline.',
  kind: 'stream',
  mutates: true,
  input: z.strictObject({
    workspace: workspaceRef,
    dest: guestPath.default('/workspace'),
    /** Remove what is below dest and not in the archive. */
    delete: z.boolean().default(false),
  }),
  upload: { frame: 'data', what: 'a tar, plain or compressed with gzip or zstd' },
  event: z.object({ type: z.literal('progress'), progress }),
  result: z.object({ workspaceId: z.string(), dest: z.string(), files: z.int(), bytes: z.int(), deleted: z.int() }),
  errors: [
    'workspace.not-found',
    'workspace.busy',
    'workspace.wrong-phase',
    'workspace.start-failed',
    'archive.unsafe-entry',
    'archive.too-large',
    'archive.truncated',
    'path.not-found',
    'path.not-a-file',
    'disk.full',
    'sandbox.unreachable',
  ],
  http: { method: 'POST', path: '/v1/workspaces/{workspace}/push' },
  sdk: { method: 'workspace.push' },
  cli: {
    words: ['workspace', 'sync', 'push'],
    positionals: [
      { field: 'workspace', label: 'WS', required: true, summary: 'workspace', completes: 'workspace' },
      {
        field: null,
        label: 'SRC',
        required: true,
        summary: 'folder, .tar, .tar.gz or .tar.zst on this host',
        completes: 'path',
      },
    ],
    options: [
      { flag: 'dest', field: 'dest', type: 'string', value: 'PATH', default: '/workspace', summary: 'folder inside' },
      { flag: 'git', field: null, type: 'boolean', summary: 'only tracked and new unignored files' },
      { flag: 'delete', field: 'delete', type: 'boolean', summary: 'remove what is not in SRC' },
    ],
    examples: [{ line: 'pyro workspace sync push fix ./src --dest /workspace/src', note: '' }],
  },
  mcp: {
    tool: 'sync_push',
    profiles: ['core', 'full'],
    description: 'Copy host files into the workspace. They show up in the diff; baseline stays.',
    input: z.strictObject({
      workspace: z.string(),
      source: z.string().default('project').describe('project, or a path in the project'),
      dest: z.string().optional().describe('default /workspace'),
      delete: z.boolean().optional().describe('remove what source lacks'),
    }),
  },
})
