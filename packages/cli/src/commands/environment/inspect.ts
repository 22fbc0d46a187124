import { environmentDetails } from '../../render/environment.ts'
import { unary } from '../command.ts'

export const command = unary('environment.inspect', (environment, { terminal }) =>
  terminal.line(environmentDetails(environment)),
)
