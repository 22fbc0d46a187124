import { escapeControls } from '../../render/escape.ts'
import type { Command } from '../command.ts'

export const command: Command = async ({ terminal, interrupts, pyro }) => {
  const before = await pyro.engine.status({ signal: interrupts.signal })
  if (!before.running) await pyro.engine.start({ signal: interrupts.signal })
  const status = before.running ? before : await pyro.engine.status({ signal: interrupts.signal })
  if (terminal.json) terminal.document(status)
  else
    terminal.done(
      `engine ${before.running ? 'runs already' : 'started'}: pid ${status.pid}, ${escapeControls(status.socket)}`,
    )
  return 0
}
