import type { CliFacet } from './operation.ts'

/** A command that exists on the command line alone, with the reason why no other surface has it. */
export interface LocalCommand {
  readonly id: string
  readonly summary: string
  readonly description?: string
  readonly reason: string
  readonly cli: CliFacet
}

const ENGINE_PROCESS = 'it is about the engine process itself, which other surfaces only talk to'

const daemon = (verb: string, summary: string, description: string, options: CliFacet['options']): LocalCommand => ({
  id: `daemon.${verb}`,
  summary,
  description,
  reason: ENGINE_PROCESS,
  cli: {
    words: ['daemon', verb],
    positionals: [],
    options,
    examples: [{ line: `pyro daemon ${verb}`, note: '' }],
  },
})

const STOP_WORKSPACES = {
  flag: 'workspaces',
  field: 'workspaces',
  type: 'boolean',
  summary: 'stop every workspace first',
} as const

export const LOCAL_COMMANDS: readonly LocalCommand[] = [
  daemon('start', 'Start the engine and wait until it answers', 'Any other command does so by itself.', []),
  daemon('stop', 'End the engine; sandboxes live on', 'Says how many sandboxes live on without it.', [STOP_WORKSPACES]),
  daemon('restart', 'End the engine and start this version of it', 'Running commands go on; nothing is lost.', []),
  daemon('status', 'Show whether the engine runs', 'Never starts it. Ends with 7 when it does not run.', []),
  daemon('logs', 'Print the log of the engine', 'The log file of this PYRO_HOME, newest lines last.', [
    { flag: 'lines', field: 'lines', type: 'int', value: 'N', default: '200', summary: 'the last this many lines' },
    { flag: 'follow', short: 'f', field: 'follow', type: 'boolean', summary: 'go on as lines are written' },
  ]),
  {
    id: 'mcp.serve',
    summary: 'Serve Pyro to a coding agent over the Model Context Protocol',
    description:
      'Talks on standard input and output. Host paths in calls are relative to the project and stay beneath it unless allowed.',
    reason: 'it is the MCP surface itself',
    cli: {
      words: ['mcp', 'serve'],
      positionals: [],
      options: [
        {
          flag: 'profile',
          field: 'profile',
          type: 'string',
          value: 'P',
          default: 'core',
          choices: ['core', 'run', 'full'],
          summary: 'which tools',
        },
        {
          flag: 'project-path',
          field: 'projectPath',
          type: 'string',
          value: 'P',
          completes: 'path',
          summary: 'the project (default: git top level of this folder)',
        },
        {
          flag: 'allow-read',
          field: 'allowRead',
          type: 'list',
          value: 'P',
          completes: 'path',
          summary: 'also read host files below this folder, repeatable',
        },
        {
          flag: 'allow-write',
          field: 'allowWrite',
          type: 'list',
          value: 'P',
          completes: 'path',
          summary: 'also write host files below this folder, repeatable',
        },
        {
          flag: 'http',
          field: 'http',
          type: 'int',
          value: 'PORT',
          summary: 'listen on 127.0.0.1 instead; needs the bearer token in the file it names',
        },
      ],
      examples: [{ line: 'pyro mcp serve --profile core', note: '' }],
    },
  },
  {
    id: 'mcp.install',
    summary: 'Register the MCP server with a coding agent',
    reason: 'it writes the configuration of another program on this host',
    cli: {
      words: ['mcp', 'install'],
      positionals: [
        {
          field: 'client',
          label: 'CLIENT',
          required: true,
          summary: 'claude-code, codex, opencode, cursor or vscode',
          choices: ['claude-code', 'codex', 'opencode', 'cursor', 'vscode'],
        },
      ],
      options: [
        {
          flag: 'scope',
          field: 'scope',
          type: 'string',
          value: 'S',
          default: 'user',
          choices: ['user', 'project'],
          summary: 'for this user, or for this project',
        },
        { flag: 'print', field: 'print', type: 'boolean', summary: 'print what would be written and change nothing' },
      ],
      examples: [{ line: 'pyro mcp install claude-code --print', note: 'see it first' }],
    },
  },
  {
    id: 'completion',
    summary: 'Print the completion script of a shell',
    reason: 'it is about the command line itself',
    cli: {
      words: ['completion'],
      positionals: [
        {
          field: 'shell',
          label: 'SHELL',
          required: true,
          summary: 'bash, zsh or fish',
          choices: ['bash', 'zsh', 'fish'],
        },
      ],
      options: [],
      examples: [
        { line: 'pyro completion bash > /etc/bash_completion.d/pyro', note: '' },
        { line: 'source <(pyro completion zsh)', note: 'in ~/.zshrc' },
      ],
    },
  },
  {
    id: 'version',
    summary: 'Print the version of this client and of the engine, when one runs',
    reason: 'it is about the program itself',
    cli: { words: ['version'], positionals: [], options: [], examples: [{ line: 'pyro version', note: '' }] },
  },
]
