import { counted, formatDuration } from '../../render/format.ts'
import { unary } from '../command.ts'

export const command = unary('workspace.reset', (reset, { terminal }) => {
  const { cleared, name, snapshot, durationMs, savedAs, started } = reset
  terminal.done(`reset ${name} to ${snapshot} in ${formatDuration(durationMs)}`)
  const changed = cleared.changedPaths === null ? '' : ` and ${counted(cleared.changedPaths, 'changed path')}`
  terminal.talk(`cleared ${counted(cleared.commands, 'command')} of history${changed}`)
  for (const { commandId, command: text } of cleared.runningCommands) {
    terminal.talk(`ended ${commandId}: ${text}`)
  }
  if (savedAs !== null) terminal.talk(`the state before is the snapshot ${savedAs}`)
  if (started) terminal.talk('the workspace was not running; it is now')
})
