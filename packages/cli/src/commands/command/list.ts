import { outcomeOf } from '../../render/command.ts'
import { formatAge, formatDuration } from '../../render/format.ts'
import { table } from '../../render/table.ts'
import { commandText } from '../../render/workspace.ts'
import { unary } from '../command.ts'

export const command = unary('workspace.command.list', ({ commands, total }, { args, terminal }) => {
  if (args.flags['id-only'] === true) {
    for (const { commandId } of commands) terminal.line(commandId)
    return
  }
  if (commands.length === 0) return terminal.talk('no commands since the last reset')
  const rows = commands.map((entry) => [
    String(entry.sequence),
    entry.commandId,
    outcomeOf(entry),
    formatDuration(entry.durationMs),
    formatAge(entry.startedAt),
    commandText(entry.command),
  ])
  terminal.line(table(['#', 'ID', 'OUTCOME', 'TOOK', 'STARTED', 'COMMAND'], rows))
  if (total > commands.length) terminal.talk(`${total - commands.length} older ones; --limit shows more`)
})
