import type { CommandResult, WorkspaceRecord } from '@pyro/protocol'
import type { Creation } from '../creations.ts'
import { commandText } from '../running-command.ts'
import { callText, lines, type CallContext, type ToolOf } from '../tool.ts'
import { count, duration } from '../text/quantity.ts'
import { oneLine } from '../text/terminal-text.ts'
import { workspaceOf } from '../workspace-handle.ts'

/** Workspaces of one answer. */
const LIST_LIMIT = 20
/** Running commands and snapshots named for one workspace. */
const NAMED_LIMIT = 20

export const workspaceList: ToolOf<'workspace.list'> = {
  call: async ({ workspace: reference }, context) => {
    if (reference !== undefined) return describeOne(reference, context)
    const workspaces = await context.pyro.workspaces.list({ signal: context.signal })
    const listed = new Set(workspaces.map(({ name }) => name))
    const pending = context.creations.all().filter(({ name, failure }) => failure !== null || !listed.has(name))
    const shown = workspaces.slice(0, LIST_LIMIT)
    const more = workspaces.length - shown.length
    return {
      text:
        workspaces.length + pending.length === 0
          ? 'no workspaces'
          : lines(
              ...pending.map(creationLine),
              ...shown.map(listLine),
              more === 0
                ? null
                : `… ${count(more, 'older workspace')}: ${callText('workspace_list', { workspace: 'NAME' })} shows one`,
            ),
      structured: { workspaces: shown, more, creating: pending.map(({ name, step }) => ({ name, step })) },
    }
  },
}

const describeOne = async (reference: string, context: CallContext) => {
  const creation = context.creations.get(reference)
  if (creation !== undefined && creation.failure === null) {
    return { text: creationLine(creation), structured: { name: creation.name, phase: 'creating', step: creation.step } }
  }
  const workspace = await workspaceOf(reference, context)
  const record = workspace.info
  const running = await workspace.commands.list({ running: true, limit: NAMED_LIMIT, signal: context.signal })
  return {
    text: lines(
      listLine(record),
      record.failure === null ? null : `failure: ${record.failure.code}: ${oneLine(record.failure.message)}`,
      ...running.map(runningLine),
    ),
    structured: {
      ...record,
      running: running.map(({ commandId, command, startedAt }) => ({ commandId, command, startedAt })),
    },
  }
}

const age = (time: string): string => duration(Math.max(0, Date.now() - Date.parse(time)))

const runningLine = ({ commandId, command, startedAt }: CommandResult): string =>
  `running: ${commandId} ${commandText(command)} · for ${age(startedAt)}`

const creationLine = ({ name, step, failure, startedAtMs }: Creation): string =>
  failure === null
    ? `"${oneLine(name)}" creating · ${step} · ${duration(Date.now() - startedAtMs)} so far`
    : `"${oneLine(name)}" was not created · ${failure.code}: ${oneLine(failure.message)}`

const listLine = (record: WorkspaceRecord): string => {
  const named = record.snapshots.slice(0, NAMED_LIMIT).map(oneLine)
  const snapshots = record.snapshots.length > NAMED_LIMIT ? [...named, `… ${record.snapshots.length} in all`] : named
  return [
    `${record.workspaceId} "${oneLine(record.name)}" ${record.phase}`,
    record.environment.name,
    record.isolation,
    `active ${age(record.lastActivityAt)} ago`,
    `snapshots ${snapshots.join(', ')}`,
    record.lastCommand?.running === true ? `running ${record.lastCommand.commandId}` : null,
    record.expiresAt === null ? null : `expires in ${duration(Math.max(0, Date.parse(record.expiresAt) - Date.now()))}`,
    record.failure === null ? null : record.failure.code,
  ]
    .filter((part) => part !== null)
    .join(' · ')
}
