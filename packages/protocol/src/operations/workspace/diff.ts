import { z } from 'zod'
import { diffResult } from '../../model/diff.ts'
import { BASELINE, CURRENT, name, workspaceRef } from '../../model/names.ts'
import { defineOperation } from '../../operation.ts'

export const workspaceDiff = defineOperation({
  id: 'workspace.diff',
  summary: 'Show what changed between two states of a workspace, as a patch git can apply',
  description:
    'Hand a change back with `pyro workspace diff WS | git apply --3way`, at the top of the work tree: below it, git apply skips in silence what lies elsewhere. What git cannot carry is listed and counted, never lost silently. Any root can be compared, `/` included.',
  kind: 'stream',
  mutates: false,
  input: z.strictObject({
    workspace: workspaceRef,
    /** A snapshot, `baseline` or `current`. */
    from: name.default(BASELINE),
    to: name.default(CURRENT),
    root: z.string().startsWith('/').max(4096).default('/workspace'),
    /** Only these paths, relative to the root (files or folders). */
    paths: z.array(z.string().min(1).max(4096)).max(1000).default([]),
    /** List paths that the baseline's .gitignore files name, too, and put them into the patch. */
    ignored: z.boolean().default(false),
    /** False leaves the patch out: entries and totals only. */
    patch: z.boolean().default(true),
  }),
  download: 'the bytes of the patch, which need not be UTF-8',
  result: diffResult,
  errors: [
    'workspace.not-found',
    'workspace.busy',
    'workspace.lost',
    'snapshot.not-found',
    'path.not-found',
    'disk.full',
    'limit.exceeded',
  ],
  http: { method: 'POST', path: '/v1/workspaces/{workspace}/diff' },
  sdk: { method: 'workspace.diff' },
  cli: {
    words: ['workspace', 'diff'],
    positionals: [{ field: 'workspace', label: 'WS', required: true, summary: 'workspace', completes: 'workspace' }],
    options: [
      {
        flag: 'from',
        field: 'from',
        type: 'string',
        value: 'NAME',
        default: 'baseline',
        completes: 'snapshot',
        summary: 'older state',
      },
      {
        flag: 'to',
        field: 'to',
        type: 'string',
        value: 'NAME',
        default: 'current',
        completes: 'snapshot',
        summary: 'newer state',
      },
      {
        flag: 'root',
        field: 'root',
        type: 'string',
        value: 'PATH',
        default: '/workspace',
        summary: 'folder inside to compare',
      },
      { flag: 'path', field: 'paths', type: 'list', value: 'P', summary: 'only this path below the root, repeatable' },
      { flag: 'stat', field: null, type: 'boolean', summary: 'counts per file instead of the patch' },
      { flag: 'name-only', field: null, type: 'boolean', summary: 'names instead of the patch' },
      { flag: 'ignored', field: 'ignored', type: 'boolean', summary: 'ignored files too' },
      {
        flag: 'output',
        field: null,
        type: 'string',
        value: 'FILE',
        completes: 'path',
        summary: 'write the patch to this file; - is standard output',
      },
      { flag: 'exit-code', field: null, type: 'boolean', summary: 'end with 1 when anything differs' },
    ],
    examples: [
      { line: 'pyro workspace diff fix | git apply --3way', note: 'bring the change into this repository' },
      { line: 'pyro workspace diff fix --root / --stat', note: 'what changed in the whole machine' },
    ],
  },
  mcp: {
    tool: 'workspace_diff',
    profiles: ['core', 'full'],
    description: 'What changed, as a patch that applies with git apply.',
    readOnly: false,
    input: z.strictObject({
      workspace: z.string(),
      from: z.string().optional().describe('snapshot, default baseline'),
      to: z.string().optional().describe('snapshot, default current'),
      root: z.string().optional().describe('default /workspace; / compares the whole machine'),
      paths: z.array(z.string()).optional().describe('only these, relative to root'),
      format: z.enum(['patch', 'stat']).optional(),
      ignored: z.boolean().optional().describe('ignored files too'),
      output: z.string().optional().describe('write the patch to this project file'),
      maxBytes: z.int().positive().default(16_384),
    }),
  },
})
