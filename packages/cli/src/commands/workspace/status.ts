import { workspaceDetails } from '../../render/workspace.ts'
import { unary } from '../command.ts'

export const command = unary('workspace.status', (workspace, { terminal }) =>
  terminal.line(workspaceDetails(workspace)),
)
