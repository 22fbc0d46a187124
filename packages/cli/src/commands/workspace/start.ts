import { workspaceLine } from '../../render/workspace.ts'
import { unary } from '../command.ts'

export const command = unary('workspace.start', (workspace, { terminal }) => terminal.done(workspaceLine(workspace)))
