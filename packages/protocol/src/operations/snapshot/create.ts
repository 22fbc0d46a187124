import { z } from 'zod'
import { name, workspaceRef } from '../../model/names.ts'
import { snapshotRecord } from '../../model/workspace.ts'
import { defineOperation } from '../../operation.ts'

export const snapshotCreate = defineOperation({
  id: 'workspace.snapshot.create',
  summary: 'Keep the whole disk of a workspace under a name',
  description:
    'Running or stopped. Installed packages and /tmp are in it; processes are not. Milliseconds, whatever the size.',
  kind: 'unary',
  mutates: true,
  input: z.strictObject({ workspace: workspaceRef, name, replace: z.boolean().default(false) }),
  result: snapshotRecord.extend({ workspaceId: z.string(), durationMs: z.int(), replaced: z.boolean() }),
  errors: [
    'workspace.not-found',
    'workspace.busy',
    'workspace.wrong-phase',
    'workspace.lost',
    'snapshot.exists',
    'snapshot.reserved',
    'limit.exceeded',
    'disk.full',
    'sandbox.unreachable',
  ],
  http: { method: 'POST', path: '/v1/workspaces/{workspace}/snapshots' },
  sdk: { method: 'workspace.snapshots.create' },
  cli: {
    words: ['workspace', 'snapshot', 'create'],
    positionals: [
      { field: 'workspace', label: 'WS', required: true, summary: 'workspace', completes: 'workspace' },
      { field: 'name', label: 'NAME', required: true, summary: 'name of the snapshot' },
    ],
    options: [{ flag: 'replace', field: 'replace', type: 'boolean', summary: 'replace one of this name' }],
    examples: [{ line: 'pyro workspace snapshot create fix green', note: 'before a risky step' }],
  },
  mcp: {
    tool: 'snapshot_create',
    profiles: ['core', 'full'],
    description: 'Keep the whole disk under a name, in milliseconds, before a risky step. Processes are not in it.',
    input: z.strictObject({ workspace: z.string(), name: z.string(), replace: z.boolean().optional() }),
  },
})
