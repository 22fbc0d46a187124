import { summaryOf } from '../../render/command.ts'
import { unary } from '../command.ts'

export const command = unary('workspace.command.kill', (result, { terminal }) => terminal.line(summaryOf(result)))
