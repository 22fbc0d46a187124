import { snapshotTable } from '../../render/snapshot.ts'
import { unary } from '../command.ts'

export const command = unary('workspace.snapshot.list', ({ snapshots }, { args, terminal }) => {
  if (args.flags['id-only'] === true) for (const { name } of snapshots) terminal.line(name)
  else terminal.line(snapshotTable(snapshots))
})
