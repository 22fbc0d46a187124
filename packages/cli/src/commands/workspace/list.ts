import { workspaceTable } from '../../render/workspace.ts'
import { unary } from '../command.ts'

export const command = unary('workspace.list', ({ workspaces }, { args, terminal }) => {
  if (args.flags['id-only'] === true) for (const { workspaceId } of workspaces) terminal.line(workspaceId)
  else if (workspaces.length > 0) terminal.line(workspaceTable(workspaces))
  else terminal.talk('no workspaces; pyro workspace create debian:12 makes one')
})
