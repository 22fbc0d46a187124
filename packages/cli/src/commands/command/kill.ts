import { summaryOf } from '../../render/command.ts'
import { unary } from '../command.ts'

export const command = unary('workspace.command.kill', (result, { terminal }) => terminal.done(summaryOf(result)))
