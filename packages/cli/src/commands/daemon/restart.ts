import type { Command } from '../command.ts'

export const command: Command = async ({ terminal, interrupts, pyro }) => {
  await pyro.engine.shutdown({}, { signal: interrupts.signal })
  await pyro.engine.start({ signal: interrupts.signal })
  const status = await pyro.engine.status({ signal: interrupts.signal })
  if (terminal.json) terminal.document(status)
  else terminal.done(`engine restarted: pid ${status.pid}, version ${status.version}`)
  return 0
}
