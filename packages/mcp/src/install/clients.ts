import { join } from 'node:path'

export const INSTALL_CLIENTS = ['claude-code', 'codex', 'opencode', 'cursor', 'vscode'] as const
export type InstallClient = (typeof INSTALL_CLIENTS)[number]
export type InstallScope = 'user' | 'project'

/** How a host starts the server. */
export interface ServerCommand {
  readonly command: string
  readonly args: readonly string[]
}

export interface Folders {
  /** Home folder of the user. */
  readonly home: string
  /** Top level of the project. */
  readonly project: string
  /** `XDG_CONFIG_HOME`, else `~/.config`. */
  readonly config: string
  /** `CODEX_HOME`, else `~/.codex`. */
  readonly codex: string
}

export interface ClientConfig {
  readonly format: 'json' | 'toml'
  /** The file of a scope. */
  readonly path: (folders: Folders, scope: InstallScope) => string
  /** Where in the file the server stands, under its name. */
  readonly section: readonly string[]
  readonly entry: (server: ServerCommand) => Readonly<Record<string, unknown>>
  /** What a new file holds beside the server. */
  readonly preamble?: Readonly<Record<string, unknown>>
  /** How the host names the open folder in arguments, where it does not start servers in it. */
  readonly projectVariable?: string
}

const commandAndArgs = ({ command, args }: ServerCommand) => ({ command, args: [...args] })

export const CLIENTS: Readonly<Record<InstallClient, ClientConfig>> = {
  'claude-code': {
    format: 'json',
    path: ({ home, project }, scope) => (scope === 'user' ? join(home, '.claude.json') : join(project, '.mcp.json')),
    section: ['mcpServers'],
    entry: (server) => ({ type: 'stdio', ...commandAndArgs(server) }),
  },
  codex: {
    format: 'toml',
    path: ({ codex, project }, scope) => join(scope === 'user' ? codex : join(project, '.codex'), 'config.toml'),
    section: ['mcp_servers'],
    entry: commandAndArgs,
  },
  opencode: {
    format: 'json',
    path: ({ config, project }, scope) => join(scope === 'user' ? join(config, 'opencode') : project, 'opencode.json'),
    section: ['mcp'],
    entry: ({ command, args }) => ({ type: 'local', command: [command, ...args], enabled: true }),
    preamble: { $schema: 'https://opencode.ai/config.json' },
  },
  cursor: {
    format: 'json',
    path: ({ home, project }, scope) => join(scope === 'user' ? home : project, '.cursor', 'mcp.json'),
    section: ['mcpServers'],
    entry: commandAndArgs,
    projectVariable: '${workspaceFolder}',
  },
  vscode: {
    format: 'json',
    path: ({ config, project }, scope) =>
      scope === 'user' ? join(config, 'Code', 'User', 'mcp.json') : join(project, '.vscode', 'mcp.json'),
    section: ['servers'],
    entry: (server) => ({ type: 'stdio', ...commandAndArgs(server) }),
    projectVariable: '${workspaceFolder}',
  },
}
