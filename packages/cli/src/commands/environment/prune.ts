import { formatBytes } from '../../render/format.ts'
import { inputOf, type Command } from '../command.ts'
import { confirmed } from '../confirm.ts'

export const command: Command = async (context) => {
  const { args, terminal, interrupts, pyro } = context
  const input = inputOf<'environment.prune'>(args)
  if (input.all === true && !(await confirmed(context, 'Remove every environment that no workspace stands on?'))) {
    terminal.talk('nothing was removed')
    return 0
  }
  const result = await pyro.client.call('environment.prune', input, { signal: interrupts.signal })
  if (terminal.json) terminal.document(result)
  else {
    for (const { kind, name, bytes } of result.removed) terminal.done(`removed ${kind} ${name} (${formatBytes(bytes)})`)
    terminal.talk(`${formatBytes(result.freedBytes)} came back`)
  }
  return 0
}
