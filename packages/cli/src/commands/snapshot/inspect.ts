import { snapshotDetails } from '../../render/snapshot.ts'
import { unary } from '../command.ts'

export const command = unary('workspace.snapshot.inspect', (snapshot, { terminal }) =>
  terminal.line(snapshotDetails(snapshot)),
)
