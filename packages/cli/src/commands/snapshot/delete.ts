import { unary } from '../command.ts'

export const command = unary('workspace.snapshot.delete', ({ deleted }, { terminal }) =>
  terminal.done(`deleted snapshot ${deleted}`),
)
