import { z } from 'zod'
import { guestPath } from '../../model/common.ts'
import { workspaceRef } from '../../model/names.ts'
import { defineOperation } from '../../operation.ts'

export const fileRead = defineOperation({
  id: 'workspace.file.read',
  summary: 'Read a file, by lines or by bytes',
  kind: 'unary',
  mutates: false,
  input: z.strictObject({
    workspace: workspaceRef,
    /** Relative to the root. */
    path: guestPath,
    root: z.string().startsWith('/').max(4096).default('/workspace'),
    /** First line, from 1. Lines and bytes exclude each other. */
    startLine: z.int().positive().optional(),
    maxLines: z.int().positive().max(1_000_000).optional(),
    offset: z.int().nonnegative().optional(),
    maxBytes: z
      .int()
      .positive()
      .max(16 * 1024 * 1024)
      .optional(),
  }),
  result: z.object({
    path: z.string(),
    sizeBytes: z.int(),
    mode: z.string(),
    /** Text with U+FFFD for what is not UTF-8; then `textBase64` has the bytes. */
    text: z.string(),
    textBase64: z.string().optional(),
    /** Set when read by lines. */
    startLine: z.int().nullable(),
    lines: z.int().nullable(),
    /** Lines of the whole file, where it was read to its end. */
    totalLines: z.int().nullable(),
    offset: z.int(),
    bytes: z.int(),
    /** True when the file goes on. */
    more: z.boolean(),
  }),
  errors: [
    'workspace.not-found',
    'workspace.busy',
    'workspace.wrong-phase',
    'workspace.start-failed',
    'path.not-found',
    'path.not-a-file',
    'path.outside-root',
    'limit.exceeded',
    'sandbox.unreachable',
  ],
  http: { method: 'POST', path: '/v1/workspaces/{workspace}/file/read' },
  sdk: { method: 'workspace.files.read' },
  cli: {
    words: ['workspace', 'file', 'read'],
    positionals: [
      { field: 'workspace', label: 'WS', required: true, summary: 'workspace', completes: 'workspace' },
      { field: 'path', label: 'PATH', required: true, summary: 'file inside' },
    ],
    options: [
      {
        flag: 'root',
        field: 'root',
        type: 'string',
        value: 'PATH',
        default: '/workspace',
        summary: 'what PATH is relative to',
      },
      { flag: 'start-line', field: 'startLine', type: 'int', value: 'N', summary: 'first line, from 1' },
      {
        flag: 'max-lines',
        field: 'maxLines',
        type: 'int',
        value: 'N',
        default: '400',
        summary: 'at most this many lines',
      },
      { flag: 'offset', field: 'offset', type: 'int', value: 'N', summary: 'first byte' },
      {
        flag: 'max-bytes',
        field: 'maxBytes',
        type: 'int',
        value: 'N',
        default: '65536',
        summary: 'at most this many bytes',
      },
    ],
    examples: [{ line: 'pyro workspace file read fix src/main.py --start-line 40 --max-lines 20', note: '' }],
  },
  mcp: {
    tool: 'file_read',
    profiles: ['core', 'full'],
    description: 'Read a text file, at most 16 KiB at a time.',
    input: z.strictObject({
      workspace: z.string(),
      path: z.string().describe('relative to /workspace, or absolute'),
      startLine: z.int().positive().optional(),
      maxLines: z.int().positive().optional(),
    }),
  },
})
