import { counted } from '../../render/format.ts'
import type { Command } from '../command.ts'

export const command: Command = async ({ args, terminal, interrupts, pyro }) => {
  const workspaces = args.input['workspaces'] === true
  const result = await pyro.engine.shutdown({ workspaces }, { signal: interrupts.signal })
  if (terminal.json) terminal.document(result ?? { sandboxes: 0, stopped: 0 })
  else if (result === null) terminal.done('no engine runs')
  else if (workspaces) terminal.done(`engine ended; stopped ${counted(result.stopped, 'workspace')}`)
  else terminal.done(`engine ended; ${counted(result.sandboxes, 'sandbox lives', 'sandboxes live')} on`)
  return 0
}
