import type { CommandResult } from '@pyro/protocol'
import { execCommand, startCommand } from '@pyro/sdk'
import { commandOf } from '../../args/command-line.ts'
import { attached } from '../attached.ts'
import { inputOf, type Command } from '../command.ts'
import { exitOf, summaryOf } from '../../render/command.ts'

export const command: Command = async (context) => {
  const { args, terminal, interrupts, pyro } = context
  const { workspace, command: words, detach, stdin: _stdin, ...fields } = inputOf<'workspace.exec'>(args)
  const line = commandOf(words as string[])
  if (detach === true) {
    const started = await startCommand(pyro.client, workspace, line, { ...fields, signal: interrupts.signal })
    if (terminal.json) terminal.document(started)
    else terminal.line(started.commandId)
    return 0
  }
  const result = await execCommand(pyro.client, workspace, line, { ...fields, ...attached(context) })
  return ended(result, context)
}

const ended = (result: CommandResult, { terminal }: Parameters<Command>[0]): number => {
  if (terminal.json) terminal.document(result)
  else if (terminal.talksToPerson || result.limit !== null) terminal.talk(summaryOf(result))
  return exitOf(result)
}
