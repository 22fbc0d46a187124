import { EXIT } from '@pyro/protocol/client'
import { fields } from '../../render/table.ts'
import type { Command } from '../command.ts'

export const command: Command = async ({ terminal, interrupts, pyro }) => {
  const status = await pyro.engine.status({ signal: interrupts.signal })
  if (terminal.json) terminal.document(status)
  else {
    const rows = [
      ['engine', status.running ? 'running' : 'not running'],
      ['pid', status.pid === null ? null : String(status.pid)],
      ['version', status.version],
      ['workspaces', status.workspaces === null ? null : String(status.workspaces)],
      ['socket', status.socket],
      ['home', status.home],
    ] as const
    terminal.line(fields(rows))
  }
  return status.running ? EXIT.ok : EXIT.unreachable
}
