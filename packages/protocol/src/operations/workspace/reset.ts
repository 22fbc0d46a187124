import { z } from 'zod'
import { BASELINE, name, snapshotRef, workspaceRef } from '../../model/names.ts'
import { resetResult } from '../../model/workspace.ts'
import { defineOperation } from '../../operation.ts'

export const workspaceReset = defineOperation({
  id: 'workspace.reset',
  summary: 'Replace the whole sandbox by a new one on a snapshot; id, name and snapshots stay',
  description:
    'The new sandbox is started and verified before the old one goes: a reset that fails leaves the workspace as it was. History starts again; nothing started before is alive. Works on stopped and failed workspaces too and leaves them running.',
  kind: 'unary',
  mutates: true,
  input: z.strictObject({
    workspace: workspaceRef,
    snapshot: snapshotRef.default(BASELINE),
    /** Take a snapshot of the present state under this name first. */
    saveAs: name.optional(),
  }),
  result: resetResult,
  errors: [
    'workspace.not-found',
    'workspace.busy',
    'workspace.wrong-phase',
    'workspace.start-failed',
    'workspace.lost',
    'snapshot.not-found',
    'snapshot.exists',
    'snapshot.reserved',
    'limit.exceeded',
    'disk.full',
  ],
  http: { method: 'POST', path: '/v1/workspaces/{workspace}/reset' },
  sdk: { method: 'workspace.reset' },
  cli: {
    words: ['workspace', 'reset'],
    positionals: [{ field: 'workspace', label: 'WS', required: true, summary: 'workspace', completes: 'workspace' }],
    options: [
      {
        flag: 'snapshot',
        field: 'snapshot',
        type: 'string',
        value: 'NAME',
        default: 'baseline',
        completes: 'snapshot',
        summary: 'where to go back to',
      },
      {
        flag: 'save-as',
        field: 'saveAs',
        type: 'string',
        value: 'NAME',
        summary: 'keep the present state as this snapshot',
      },
    ],
    examples: [
      { line: 'pyro workspace reset fix', note: 'back to how it was created' },
      { line: 'pyro workspace reset fix --snapshot green --save-as broken', note: '' },
    ],
  },
  mcp: {
    tool: 'workspace_reset',
    profiles: ['core', 'full'],
    description:
      'Replace the machine by a fresh one on a snapshot: prefer it to repairing. Ends all processes; snapshots stay.',
    destructive: true,
    input: z.strictObject({
      workspace: z.string(),
      snapshot: z.string().default('baseline'),
      saveAs: z.string().optional().describe('first keep the present state as this snapshot'),
    }),
  },
})
