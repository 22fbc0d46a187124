import { isAbsent, type LocalCommand, type Operation } from '../../packages/protocol/src/index.ts'

export interface CliInput {
  readonly operations: readonly Operation[]
  readonly local: readonly LocalCommand[]
}

/** Source of `packages/cli/src/generated/commands.ts`: every command with its arguments, options and help. */
export const emitCommands = ({ operations, local }: CliInput): string => {
  const derived = operations.flatMap((operation) =>
    isAbsent(operation.cli)
      ? []
      : [{ id: operation.id, summary: operation.summary, description: operation.description, ...operation.cli }],
  )
  const own = local.map(({ id, summary, description, cli }) => ({ id, summary, description, ...cli }))
  const rows = [...derived, ...own].map((command) => `  ${JSON.stringify(command)},`)
  return [
    '// Generated from packages/protocol by `npm run generate`. Do not edit.',
    `import type { CliFacet } from '@pyro/protocol'`,
    '',
    'export interface CommandEntry extends CliFacet {',
    '  readonly id: string',
    '  readonly summary: string',
    '  readonly description?: string',
    '}',
    '',
    'export const COMMANDS: readonly CommandEntry[] = [',
    ...rows,
    ']',
    '',
  ].join('\n')
}
