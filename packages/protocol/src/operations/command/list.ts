import { z } from 'zod'
import { commandResult } from '../../model/command.ts'
import { workspaceRef } from '../../model/names.ts'
import { defineOperation } from '../../operation.ts'

export const commandList = defineOperation({
  id: 'workspace.command.list',
  summary: 'List the commands of a workspace since its last reset, with heads and tails of their output',
  kind: 'unary',
  mutates: false,
  input: z.strictObject({
    workspace: workspaceRef,
    running: z.boolean().default(false),
    /** The newest this many. */
    limit: z.int().positive().max(10_000).default(100),
  }),
  result: z.object({ commands: z.array(commandResult), total: z.int() }),
  errors: ['workspace.not-found'],
  http: { method: 'GET', path: '/v1/workspaces/{workspace}/commands' },
  sdk: { method: 'workspace.commands.list' },
  cli: {
    words: ['workspace', 'command', 'list'],
    positionals: [{ field: 'workspace', label: 'WS', required: true, summary: 'workspace', completes: 'workspace' }],
    options: [
      { flag: 'running', field: 'running', type: 'boolean', summary: 'only those still running' },
      { flag: 'limit', field: 'limit', type: 'int', value: 'N', default: '100', summary: 'the newest this many' },
      { flag: 'id-only', field: null, type: 'boolean', summary: 'print ids alone' },
    ],
    examples: [{ line: 'pyro workspace command list fix', note: '' }],
  },
  mcp: { tool: 'command_list', profiles: ['full'] },
})
