import { VERSION } from '@pyro/sdk'
import type { Command } from './command.ts'

export const command: Command = async ({ terminal, interrupts, pyro }) => {
  const { version } = await pyro.engine.status({ signal: interrupts.signal })
  if (terminal.json) terminal.document({ version: VERSION, engineVersion: version, node: process.version })
  else terminal.line(`pyro ${VERSION}, engine ${version ?? 'not running'}, Node ${process.version}`)
  return 0
}
