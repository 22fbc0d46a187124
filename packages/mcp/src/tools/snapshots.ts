import type { DiffResult } from '@pyro/protocol'
import { BASELINE } from '@pyro/protocol'
import type { Workspace } from '@pyro/sdk'
import { outcomeWithin } from '../calls.ts'
import { commandText } from '../running-command.ts'
import { lines, type CallContext, type ToolOf } from '../tool.ts'
import { count, duration } from '../text/quantity.ts'
import { oneLine } from '../text/terminal-text.ts'
import { workspaceOf } from '../workspace-handle.ts'

/** How long a reset waits for the count of files that differ from the baseline, before it answers without. */
const COUNT_LIMIT_MS = 3000
/** Running commands named in the answer to a reset. */
const NAMED_LIMIT = 5

export const snapshotCreate: ToolOf<'workspace.snapshot.create'> = {
  call: async ({ workspace: reference, name, replace }, context) => {
    const workspace = await workspaceOf(reference, context)
    const made = await workspace.snapshots.create(name, { replace: replace ?? false, signal: context.signal })
    const instead = made.replaced ? ', instead of the former one' : ''
    return {
      text: `snapshot "${oneLine(made.name)}" · ${duration(made.durationMs)}${instead}`,
      structured: { ...made },
    }
  },
}

export const workspaceReset: ToolOf<'workspace.reset'> = {
  call: async ({ workspace: reference, snapshot, saveAs }, context) => {
    const workspace = await workspaceOf(reference, context)
    const reset = await workspace.reset({
      snapshot,
      ...(saveAs === undefined ? {} : { saveAs }),
      signal: context.signal,
    })
    const [{ snapshots }, differing] = await Promise.all([
      workspace.status({ signal: context.signal }),
      reset.snapshot === BASELINE ? 0 : differingFiles(workspace, context),
    ])
    const running = reset.cleared.runningCommands
    return {
      text: lines(
        `reset to "${oneLine(reset.snapshot)}" in ${duration(reset.durationMs)}${reset.started ? ' · the workspace is running again' : ''}`,
        reset.savedAs === null ? null : `the former state is kept as "${oneLine(reset.savedAs)}"`,
        `gone: history of ${count(reset.cleared.commands, 'command')}, ${count(running.length, 'running command')}${runningNames(running)}`,
        differing === null
          ? null
          : differing === 0
            ? 'nothing differs from baseline'
            : `${count(differing, 'file differs', 'files differ')} from baseline`,
        `snapshots: ${snapshots.map(oneLine).join(', ')}`,
      ),
      structured: { ...reset, differsFromBaseline: differing, snapshots },
    }
  },
}

const runningNames = (running: readonly { readonly command: string }[]): string => {
  if (running.length === 0) return ''
  const names = running.slice(0, NAMED_LIMIT).map(({ command }) => commandText(command))
  return ` (${names.join('; ')}${running.length > NAMED_LIMIT ? '; …' : ''})`
}

/** Null when it takes too long to say. */
const differingFiles = async (workspace: Workspace, { signal }: CallContext): Promise<number | null> => {
  const diff = await outcomeWithin(workspace.diff({ patch: false, signal }), COUNT_LIMIT_MS)
  return diff === null ? null : changedPaths(diff.value.result)
}

export const changedPaths = ({ totals }: DiffResult): number =>
  totals.added + totals.modified + totals.deleted + totals.typeChanged
