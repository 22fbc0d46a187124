import { isPyroError, VERSION } from '@pyro/sdk'
import type { Command, CommandContext } from './command.ts'

export const command: Command = async (context) => {
  const { terminal } = context
  const engine = await engineOf(context)
  if (terminal.json) terminal.document({ version: VERSION, engineVersion: engine.version, node: process.version })
  else terminal.line(`pyro ${VERSION}, engine ${engine.version ?? engine.why}, Node ${process.version}`)
  return 0
}

const engineOf = async ({ interrupts, pyro }: CommandContext): Promise<{ version: string | null; why: string }> => {
  try {
    const { version } = await pyro.engine.status({ signal: interrupts.signal })
    return { version, why: 'not running' }
  } catch (error) {
    if (!isPyroError(error) || error.code !== 'engine.unreachable') throw error
    return { version: null, why: 'does not answer' }
  }
}
