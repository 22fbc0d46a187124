import { formatBytes } from '../../render/format.ts'
import { unary } from '../command.ts'

export const command = unary('environment.remove', ({ removed, freedBytes }, { terminal }) =>
  terminal.done(`removed ${removed}${freedBytes === null ? '' : ` (${formatBytes(freedBytes)})`}`),
)
