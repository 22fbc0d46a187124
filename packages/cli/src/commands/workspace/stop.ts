import { failureOf, workspaceLine } from '../../render/workspace.ts'
import { unary } from '../command.ts'

export const command = unary('workspace.stop', (workspace, { terminal }) => {
  terminal.done(workspaceLine(workspace))
  const failure = failureOf(workspace)
  if (failure !== null) terminal.talk(`warning: ${failure}`)
})
