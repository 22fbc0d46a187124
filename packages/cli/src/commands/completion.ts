import { usageError } from '../args/usage-error.ts'
import { SCRIPTS } from '../completion/scripts.ts'
import type { Command } from './command.ts'

export const command: Command = async ({ args, terminal }) => {
  const shell = String(args.input['shell'])
  if (!Object.hasOwn(SCRIPTS, shell)) {
    throw usageError(`there is no completion for ${JSON.stringify(shell)}`, `one of ${Object.keys(SCRIPTS).join(', ')}`)
  }
  await terminal.data(SCRIPTS[shell as keyof typeof SCRIPTS])
  return 0
}
