import { z } from 'zod'
import { commandResult, outputGap } from '../../model/command.ts'
import { commandId, workspaceRef } from '../../model/names.ts'
import { defineOperation } from '../../operation.ts'

export const workspaceLogs = defineOperation({
  id: 'workspace.logs',
  summary: 'Print the whole output of a command, and follow it',
  description:
    'With `--follow --json` each line is `{stream, text}`, with `textBase64` for bytes that are no UTF-8, or `{type:"gap",bytes}` in the place of output that was not kept; the last one is the command.',
  kind: 'stream',
  mutates: false,
  input: z.strictObject({
    workspace: workspaceRef,
    /** Default: the last one. */
    commandId: commandId.optional(),
    follow: z.boolean().default(false),
    /** Skip this many bytes of output (stdout and stderr in order of arrival). */
    cursor: z.int().nonnegative().default(0),
  }),
  download: 'stdout and stderr in order of arrival',
  event: outputGap,
  /** The command as it stands when the stream ends. */
  result: commandResult,
  errors: ['workspace.not-found', 'command.not-found'],
  http: { method: 'POST', path: '/v1/workspaces/{workspace}/logs' },
  sdk: { method: 'workspace.logs' },
  cli: {
    words: ['workspace', 'logs'],
    positionals: [{ field: 'workspace', label: 'WS', required: true, summary: 'workspace', completes: 'workspace' }],
    options: [
      {
        flag: 'command',
        field: 'commandId',
        type: 'string',
        value: 'CMD',
        completes: 'command',
        summary: 'command (default: the last)',
      },
      { flag: 'follow', short: 'f', field: 'follow', type: 'boolean', summary: 'go on until the command ends' },
    ],
    examples: [{ line: 'pyro workspace logs fix --follow', note: '' }],
  },
  mcp: { tool: 'workspace_logs', profiles: ['full'] },
})
