import { formatDuration } from '../../render/format.ts'
import { unary } from '../command.ts'

export const command = unary('workspace.snapshot.create', ({ name, durationMs, replaced }, { terminal }) =>
  terminal.done(`${replaced ? 'replaced' : 'created'} snapshot ${name} in ${formatDuration(durationMs)}`),
)
