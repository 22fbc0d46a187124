import { isAbsent, LOCAL_COMMANDS, OPERATIONS, type Operation } from '@pyro/protocol'
import { formatted, type GeneratedFile } from './generated-file.ts'

/** Every command with its arguments, options and help: what the command line knows of the contract at run time. */
export const commands = (): Promise<GeneratedFile> => {
  const operations: readonly Operation[] = Object.values(OPERATIONS)
  const derived = operations.flatMap(({ id, summary, description, cli }) =>
    isAbsent(cli) ? [] : [{ id, summary, description, ...cli }],
  )
  const local = LOCAL_COMMANDS.map(({ id, summary, description, cli }) => ({ id, summary, description, ...cli }))
  const text = [
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
    ...[...derived, ...local].map((command) => `  ${JSON.stringify(command)},`),
    ']',
  ].join('\n')
  return formatted('packages/cli/src/generated/commands.ts', text, 'typescript')
}
