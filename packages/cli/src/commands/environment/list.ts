import { formatBytes } from '../../render/format.ts'
import { table } from '../../render/table.ts'
import { unary } from '../command.ts'

export const command = unary('environment.list', ({ environments }, { terminal }) => {
  const rows = environments.map(({ name, installed, sizeBytes, digest, description }) => [
    name,
    installed ? 'yes' : 'no',
    sizeBytes === null ? '-' : formatBytes(sizeBytes),
    digest === null ? '-' : digest.slice(0, 19),
    description,
  ])
  terminal.line(table(['NAME', 'HERE', 'SIZE', 'DIGEST', 'DESCRIPTION'], rows))
})
