import { posix } from 'node:path'
import type { StartCommand } from '@pyro/protocol/guest'
import type { ParsedInputOf } from '@pyro/protocol'
import type { RunningCommand } from '../commands/running-command.ts'
import type { WorkspaceRow } from '../../store/workspaces.ts'
import type { Call } from '../services.ts'
import type { Workspace } from '../workspace.ts'
import { startWorkspace } from './start.ts'

const DEFAULT_FOLDER = '/workspace'
/** Most commands that say nothing have ended by then, also on an emulated processor: their start and their end are one message. */
export const HOLD_MS = 30
const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

export type ExecFields = Pick<
  ParsedInputOf<'workspace.exec'>,
  'command' | 'cwd' | 'user' | 'env' | 'timeoutMs' | 'stdin'
> & {
  /** Nobody waits for its end. */
  readonly detach?: boolean
}

/** Starts a command; a stopped workspace is started first. The command exists when this settles. */
export const execInWorkspace = async (
  workspace: Workspace,
  fields: ExecFields,
  call: Call,
): Promise<RunningCommand> => {
  const start = startCommand(workspace.row, fields)
  for (;;) {
    const sandbox = await workspace.use('exec', call.signal, () => startForUse(workspace, call))
    // Between the answer and here a reset may have put another sandbox in its place.
    if (workspace.sandbox !== sandbox) continue
    return workspace.commands.start(sandbox, { command: fields.command, start, requestId: call.requestId })
  }
}

/** In a turn: the start that another operation needs; its answer is not the caller's. */
export const startForUse = async (workspace: Workspace, call: Call): Promise<void> => {
  await startWorkspace(workspace, { signal: call.signal, requestId: null })
  call.onStarted?.(workspace.row.name)
}

/** What the agent is told: a text is for `sh -lc`, a list is argv. */
export const startCommand = (row: WorkspaceRow, fields: ExecFields): StartCommand => {
  const user = fields.user ?? (row.environment.user === '' ? null : row.environment.user)
  const env = variablesOf(row, fields.env)
  const { command } = fields
  return {
    ...(typeof command === 'string' ? { shell: withAskedPath(command, env.PATH) } : { argv: command }),
    cwd: posix.resolve(defaultFolder(row), fields.cwd ?? '.'),
    user,
    env: Object.entries(env).map(([name, value]) => `${name}=${value}`),
    timeoutMs: fields.timeoutMs ?? null,
    stdin: fields.stdin,
    holdMs: fields.stdin || fields.detach === true ? 0 : HOLD_MS,
  }
}

const defaultFolder = (row: WorkspaceRow): string => {
  const { workingDir } = row.environment
  return workingDir === '' || workingDir === '/' ? DEFAULT_FOLDER : workingDir
}

/** Later ones win: ours, the environment's, the workspace's, the call's. */
const variablesOf = (row: WorkspaceRow, own: Readonly<Record<string, string>>) => ({
  PATH: DEFAULT_PATH,
  LANG: 'C.UTF-8',
  ...row.environment.env,
  ...row.env,
  ...own,
})

/** The profile of a login shell sets a PATH of its own: one that somebody asked for goes before it. */
const withAskedPath = (text: string, path: string): string =>
  path === DEFAULT_PATH ? text : `PATH='${path.replaceAll("'", String.raw`'\''`)}':$PATH; ${text}`
