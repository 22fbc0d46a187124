import { z } from 'zod'
import { guestPath } from '../../model/common.ts'
import { workspaceRef } from '../../model/names.ts'
import { defineOperation } from '../../operation.ts'

export const fileWrite = defineOperation({
  id: 'workspace.file.write',
  summary: 'Write a file, or replace a text that occurs once in it',
  description: 'Atomic: a reader sees the old file or the new one. Missing folders are made.',
  kind: 'unary',
  mutates: true,
  input: z.strictObject({
    workspace: workspaceRef,
    path: guestPath,
    root: z.string().startsWith('/').max(4096).default('/workspace'),
    /** New content, or with `oldText` what replaces it. */
    text: z.string().optional(),
    /** The same as bytes. */
    textBase64: z.base64().optional(),
    /** Octal permission bits; default: keep, or 0644 for a new file. */
    mode: z
      .string()
      .regex(/^0?[0-7]{3}$/, 'must be like 0644')
      .optional(),
    oldText: z.string().min(1).optional(),
    replaceAll: z.boolean().default(false),
  }),
  result: z.object({
    path: z.string(),
    created: z.boolean(),
    sizeBytes: z.int(),
    mode: z.string(),
    replaced: z.int().nullable(),
  }),
  errors: [
    'workspace.not-found',
    'workspace.busy',
    'workspace.wrong-phase',
    'workspace.start-failed',
    'path.not-found',
    'path.not-a-file',
    'path.outside-root',
    'path.text-mismatch',
    'limit.exceeded',
    'disk.full',
    'sandbox.unreachable',
  ],
  http: { method: 'POST', path: '/v1/workspaces/{workspace}/file/write' },
  sdk: { method: 'workspace.files.write' },
  cli: {
    words: ['workspace', 'file', 'write'],
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
      { flag: 'text', field: 'text', type: 'string', value: 'T', summary: 'the content (default: standard input)' },
      {
        flag: 'file',
        field: null,
        type: 'string',
        value: 'HOST',
        completes: 'path',
        summary: 'the content from this file on the host; - is standard input',
      },
      { flag: 'mode', field: 'mode', type: 'string', value: 'M', summary: 'permission bits, e.g. 0755' },
      {
        flag: 'old-text',
        field: 'oldText',
        type: 'string',
        value: 'O',
        summary: 'replace this text, which must occur once',
      },
      { flag: 'replace-all', field: 'replaceAll', type: 'boolean', summary: 'with --old-text: every occurrence' },
    ],
    examples: [{ line: "pyro workspace file write fix notes.txt --text 'hello'", note: '' }],
  },
  mcp: {
    tool: 'file_write',
    profiles: ['core', 'full'],
    description:
      'Write a file, or with oldText replace that text, which must occur once. Atomic; missing folders are made.',
    input: z.strictObject({
      workspace: z.string(),
      path: z.string().describe('relative to /workspace, or absolute'),
      text: z.string(),
      oldText: z.string().optional(),
      replaceAll: z.boolean().optional(),
    }),
  },
})
