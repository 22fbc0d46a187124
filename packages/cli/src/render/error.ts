import type { PyroError } from '@pyro/protocol/client'
import type { CommandEntry } from '../generated/commands.ts'
import type { Terminal } from '../terminal.ts'
import { escapeControls, escapeLines } from './escape.ts'

/** A failure for a person: what, the code to look up, and the next command. `entry`: whose it is, as far as that is known. */
export const renderError = (error: PyroError, terminal: Terminal, entry: CommandEntry | null = null): string => {
  const message = (entry === null ? null : refusedInput(error, entry)) ?? error.message
  const lines = [
    `${terminal.styledError('red', 'error')}: ${escapeControls(message)} ${terminal.styledError('dim', `(${error.code})`)}`,
  ]
  if (error.hint !== null && error.hint !== '') lines.push(`  hint: ${escapeControls(error.hint)}`)
  if (process.env['PYRO_DEBUG'] === '1' && error.cause instanceof Error)
    lines.push(escapeLines(error.cause.stack ?? error.cause.message))
  return lines.join('\n')
}

interface Issue {
  readonly field: string
  readonly reason: string
}

/** What the engine says of fields, said of the options and words of the line that they come from; null: it is no such error. */
const refusedInput = ({ code, data }: PyroError, entry: CommandEntry): string | null => {
  if (code !== 'input.invalid' || data?.['issues'] === undefined) return null
  const issues = data['issues'] as readonly Issue[]
  const said = issues.map(({ field, reason }) => {
    const [name = '', ...rest] = field.split('.')
    const option = entry.options.find((one) => one.field === name)
    const word = entry.positionals.find((one) => one.field === name)
    const where = option === undefined ? (word?.label ?? name) : `--${option.flag}`
    return [[where, ...rest].join('.'), reason].filter((text) => text !== '').join(': ')
  })
  return `${said.join('; ')}; nothing was changed`
}
