import { z } from 'zod'
import { spanMs } from '../../model/common.ts'
import { commandResult } from '../../model/command.ts'
import { commandId, workspaceRef } from '../../model/names.ts'
import { defineOperation } from '../../operation.ts'

export const commandWait = defineOperation({
  id: 'workspace.command.wait',
  summary: 'Wait until a command ends, and end with its exit code',
  kind: 'unary',
  mutates: false,
  input: z.strictObject({
    workspace: workspaceRef,
    commandId,
    /** Give up after this time with `request.timed-out`; the command goes on. */
    timeoutMs: spanMs.optional(),
  }),
  result: commandResult,
  errors: ['workspace.not-found', 'command.not-found', 'command.interrupted', 'request.timed-out'],
  http: { method: 'POST', path: '/v1/workspaces/{workspace}/commands/{commandId}/wait' },
  sdk: { method: 'workspace.commands.wait' },
  cli: {
    words: ['workspace', 'command', 'wait'],
    positionals: [
      { field: 'workspace', label: 'WS', required: true, summary: 'workspace', completes: 'workspace' },
      { field: 'commandId', label: 'CMD', required: true, summary: 'command id', completes: 'command' },
    ],
    options: [
      {
        flag: 'timeout',
        field: 'timeoutMs',
        type: 'duration',
        value: 'D',
        summary: 'give up after this time; the command goes on',
      },
    ],
    examples: [{ line: 'pyro workspace command wait fix cmd-abcdefghijkl', note: '' }],
  },
  mcp: {
    tool: 'command_wait',
    profiles: ['core', 'full'],
    description: 'Wait for a command, read more of its output, or kill it with all it started.',
    readOnly: false,
    input: z.strictObject({
      workspace: z.string(),
      commandId: z.string(),
      waitMs: z.int().nonnegative().default(20_000),
      stream: z.enum(['stdout', 'stderr']).optional(),
      offset: z.int().nonnegative().optional().describe('read on from this byte of the output'),
      maxBytes: z.int().positive().default(8192),
      kill: z.boolean().optional(),
    }),
  },
})
