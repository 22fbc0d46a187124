import { z } from 'zod'
import { envVars, someSpanMs } from '../../model/common.ts'
import { command, commandResult, commandStarted, outputGap, stdinTaken } from '../../model/command.ts'
import { workspaceRef } from '../../model/names.ts'
import { defineOperation, type CliOption } from '../../operation.ts'

export const execFields = {
  command,
  cwd: z.string().min(1).max(4096).optional(),
  /** User name or numeric id inside; default: the environment's user, else root. */
  user: z.string().min(1).max(256).optional(),
  env: envVars.default({}),
  /** Ends the whole tree of the command; what was printed stays. */
  timeoutMs: someSpanMs.optional(),
  /** True when the request carries stdin frames; else stdin is empty. */
  stdin: z.boolean().default(false),
}

export const execOptions = [
  {
    flag: 'cwd',
    short: 'w',
    field: 'cwd',
    type: 'string',
    value: 'PATH',
    summary: "working folder inside (default: the environment's, else /workspace)",
  },
  {
    flag: 'user',
    field: 'user',
    type: 'string',
    value: 'U',
    summary: "user inside (default: the environment's, else root)",
  },
  {
    flag: 'timeout',
    field: 'timeoutMs',
    type: 'duration',
    value: 'D',
    summary: 'end the command and all it started after this time',
  },
  { flag: 'stdin', short: 'i', field: null, type: 'boolean', summary: 'forward standard input' },
] as const satisfies readonly CliOption[]

export const workspaceExec = defineOperation({
  id: 'workspace.exec',
  summary: 'Run a command in a workspace and stream its output',
  description:
    "One argument without spaces or shell characters, or several, are exact argv; one with them runs as `sh -lc`. Over SDK, HTTP and MCP a string is `sh -lc`, an array argv. A PATH of the environment, workspace or call goes before the one that the login shell's profile sets. Ends with the exit code of the command.",
  kind: 'stream',
  mutates: true,
  input: z.strictObject({
    workspace: workspaceRef,
    ...execFields,
    /** Answer as soon as the command runs; it goes on and is found by its id. */
    detach: z.boolean().default(false),
  }),
  upload: { frame: 'stdin', what: 'standard input, when `stdin` is true' },
  download: 'stdout and stderr in order of arrival',
  event: z.discriminatedUnion('type', [commandStarted, stdinTaken, outputGap]),
  result: commandResult,
  errors: [
    'workspace.not-found',
    'workspace.busy',
    'workspace.wrong-phase',
    'workspace.start-failed',
    'workspace.lost',
    'command.interrupted',
    'limit.exceeded',
    'sandbox.unreachable',
  ],
  http: { method: 'POST', path: '/v1/workspaces/{workspace}/exec' },
  sdk: { method: 'workspace.exec' },
  cli: {
    words: ['workspace', 'exec'],
    positionals: [
      { field: 'workspace', label: 'WS', required: true, summary: 'workspace', completes: 'workspace' },
      { field: 'command', label: 'CMD', required: true, variadic: true, afterDashes: true, summary: 'command' },
    ],
    options: [
      ...execOptions,
      { flag: 'env', short: 'e', field: 'env', type: 'key-value', value: 'K=V', summary: 'variable, repeatable' },
      { flag: 'detach', field: 'detach', type: 'boolean', summary: 'print the command id and leave it running' },
    ],
    examples: [
      { line: 'pyro workspace exec fix -- python3 -m unittest', note: 'exact arguments' },
      { line: "pyro workspace exec fix -- 'ls | wc -l'", note: 'through a shell' },
    ],
  },
  mcp: {
    tool: 'workspace_exec',
    profiles: ['core', 'full'],
    description:
      'Run a command. Non-zero exit is a normal result. Still running after waitMs: answers with a commandId; use waitMs 0 for servers. Files and packages persist, shell variables and cwd do not.',
    input: z.strictObject({
      workspace: z.string(),
      command: z.union([z.string(), z.array(z.string())]).describe('string: sh -lc; array: argv'),
      cwd: z.string().optional().describe('default /workspace'),
      env: z.record(z.string(), z.string()).optional(),
      stdin: z.string().optional(),
      timeoutMs: z.int().optional().describe('then it is killed with all it started'),
      waitMs: z.int().nonnegative().default(20_000).describe('at most 24000'),
      maxBytes: z.int().positive().default(8192).describe('of output, at most 65536'),
    }),
  },
})
