import type { PyroError } from '@pyro/protocol/client'
import type { Terminal } from '../terminal.ts'
import { escapeControls, escapeLines } from './escape.ts'

/** A failure for a person: what, the code to look up, and the next command. */
export const renderError = (error: PyroError, terminal: Terminal): string => {
  const lines = [
    `${terminal.styledError('red', 'error')}: ${escapeControls(error.message)} ${terminal.styledError('dim', `(${error.code})`)}`,
  ]
  if (error.hint !== null && error.hint !== '') lines.push(`  hint: ${escapeControls(error.hint)}`)
  if (process.env['PYRO_DEBUG'] === '1' && error.cause instanceof Error)
    lines.push(escapeLines(error.cause.stack ?? error.cause.message))
  return lines.join('\n')
}
