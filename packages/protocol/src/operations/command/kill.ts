import { z } from 'zod'
import { commandResult } from '../../model/command.ts'
import { commandId, workspaceRef } from '../../model/names.ts'
import { defineOperation } from '../../operation.ts'

export const signalName = z.enum(['TERM', 'KILL', 'INT', 'HUP', 'QUIT', 'USR1', 'USR2', 'STOP', 'CONT', 'WINCH'])

export const commandKill = defineOperation({
  id: 'workspace.command.kill',
  summary: 'Signal a command and everything it started',
  description:
    'After TERM what still lives 5 seconds later is killed. Answers when the command has ended, or at once for other signals.',
  kind: 'unary',
  mutates: true,
  input: z.strictObject({ workspace: workspaceRef, commandId, signal: signalName.default('TERM') }),
  result: commandResult,
  errors: ['workspace.not-found', 'command.not-found', 'sandbox.unreachable'],
  http: { method: 'POST', path: '/v1/workspaces/{workspace}/commands/{commandId}/kill' },
  sdk: { method: 'workspace.commands.kill' },
  cli: {
    words: ['workspace', 'command', 'kill'],
    positionals: [
      { field: 'workspace', label: 'WS', required: true, summary: 'workspace', completes: 'workspace' },
      { field: 'commandId', label: 'CMD', required: true, summary: 'command id', completes: 'command' },
    ],
    options: [
      {
        flag: 'signal',
        field: 'signal',
        type: 'string',
        value: 'S',
        default: 'TERM',
        choices: signalName.options,
        summary: 'signal; TERM is followed by KILL after 5 s',
      },
    ],
    examples: [{ line: 'pyro workspace command kill fix cmd-abcdefghijkl', note: '' }],
  },
  mcp: { tool: 'command_kill', profiles: ['full'] },
})
