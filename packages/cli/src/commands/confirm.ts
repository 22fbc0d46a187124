import { createInterface } from 'node:readline/promises'
import type { CommandContext } from './command.ts'

/** Asks before something is destroyed: only a person on a terminal, and not with `--yes`. */
export const confirmed = async ({ args, terminal, interrupts }: CommandContext, question: string): Promise<boolean> => {
  if (args.flags['yes'] === true || terminal.json || !terminal.input().isTTY || !terminal.talksToPerson) return true
  const reader = createInterface({ input: terminal.input(), output: process.stderr })
  try {
    const answer = await reader.question(`${question} [y/N] `, { signal: interrupts.signal })
    return /^y(es)?$/i.test(answer.trim())
  } catch (error) {
    if ((error as Error).name === 'AbortError') return false
    throw error
  } finally {
    reader.close()
  }
}
