import type { ResultOf } from '@pyro/protocol'
import { ERRORS, isErrorCode } from '@pyro/protocol/client'
import { usageError } from '../../args/usage-error.ts'
import { escapeControls } from '../../render/escape.ts'
import { counted } from '../../render/format.ts'
import { inputOf, type Command } from '../command.ts'
import { confirmed } from '../confirm.ts'

type Deleted = ResultOf<'workspace.delete'>

export const command: Command = async (context) => {
  const { args, terminal, interrupts, pyro } = context
  const input = inputOf<'workspace.delete'>(args)
  if (input.all !== true && (input.workspaces ?? []).length === 0) {
    throw usageError('pyro workspace delete needs workspaces, or --all', 'for example: pyro workspace delete fix')
  }
  if (input.all === true && (input.workspaces ?? []).length > 0) {
    throw usageError('workspaces and --all exclude each other', 'choose one')
  }
  if (input.all === true && !(await mayDeleteAll(context))) return 0
  const result = await pyro.client.call('workspace.delete', input, { signal: interrupts.signal })
  if (terminal.json) terminal.document(result)
  else {
    for (const { name, workspaceId, snapshots } of result.deleted) {
      terminal.done(`deleted ${workspaceId} "${name}" with ${counted(snapshots, 'snapshot')}`)
    }
    for (const { workspace, code, message } of result.errors) {
      terminal.error(`error: ${escapeControls(workspace)}: ${escapeControls(message)} (${code})`)
    }
    if (result.deleted.length === 0 && result.errors.length === 0) terminal.talk('nothing to delete')
  }
  return exitOf(result)
}

const mayDeleteAll = async (context: Parameters<Command>[0]): Promise<boolean> => {
  const { labels } = inputOf<'workspace.delete'>(context.args)
  const { workspaces } = await context.pyro.client.call('workspace.list', labels === undefined ? {} : { labels })
  if (workspaces.length === 0) return true
  const question = `Delete ${counted(workspaces.length, 'workspace')} with all snapshots, for ever?`
  if (await confirmed(context, question)) return true
  context.terminal.talk('nothing was deleted')
  return false
}

/** The exit code of the first failure, as if it had been the only workspace. */
const exitOf = ({ errors }: Deleted): number => {
  const [first] = errors
  if (first === undefined) return 0
  return isErrorCode(first.code) ? ERRORS[first.code].exit : 1
}
