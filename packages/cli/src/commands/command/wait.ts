import { exitOf, summaryOf } from '../../render/command.ts'
import { inputOf, type Command } from '../command.ts'

export const command: Command = async ({ args, terminal, interrupts, pyro }) => {
  const input = inputOf<'workspace.command.wait'>(args)
  const result = await pyro.client.call('workspace.command.wait', input, { signal: interrupts.signal })
  if (terminal.json) terminal.document(result)
  else terminal.talk(summaryOf(result))
  return exitOf(result)
}
