import { formatBytes } from '../../render/format.ts'
import { unary } from '../command.ts'

export const command = unary('environment.remove', ({ removed, freedBytes }, { terminal }) =>
  terminal.line(`removed ${removed}${freedBytes === null ? '' : ` (${formatBytes(freedBytes)})`}`),
)
