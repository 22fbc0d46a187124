import { isAbsent, LOCAL_COMMANDS, OPERATIONS, type CliFacet, type Operation } from '@pyro/protocol'
import { formatted, type GeneratedFile } from './generated-file.ts'

interface Command extends CliFacet {
  readonly id: string
  readonly summary: string
  readonly description: string | undefined
}

/** What the command line knows of the contract at run time: every command with its arguments and help, and who runs it. */
export const commands = (): Promise<GeneratedFile[]> => {
  const operations: readonly Operation[] = Object.values(OPERATIONS)
  const derived = operations.flatMap(({ id, summary, description, cli }) =>
    isAbsent(cli) ? [] : [{ id, summary, description, ...cli }],
  )
  const local = LOCAL_COMMANDS.map(({ id, summary, description, cli }) => ({ id, summary, description, ...cli }))
  const all = [...derived, ...local]
  return Promise.all([
    formatted('packages/cli/src/generated/commands.ts', table(all), 'typescript'),
    formatted('packages/cli/src/generated/modules.ts', modules(all), 'typescript'),
  ])
}

const NOTICE = '// Generated from packages/protocol by `npm run generate`. Do not edit.'

const table = (all: readonly Command[]): string =>
  [
    NOTICE,
    `import type { CliFacet } from '@pyro/protocol'`,
    `import type { CommandId } from './modules.ts'`,
    '',
    'export interface CommandEntry extends CliFacet {',
    '  readonly id: CommandId',
    '  readonly summary: string',
    '  readonly description?: string',
    '}',
    '',
    'export const COMMANDS: readonly CommandEntry[] = [',
    ...all.map((command) => `  ${JSON.stringify(command)},`),
    ']',
  ].join('\n')

/** `workspace.snapshot.create` is run by `commands/snapshot/create.ts`; a missing file does not compile. */
const modules = (all: readonly Command[]): string =>
  [
    NOTICE,
    `import type { CommandModule } from '../commands/command.ts'`,
    '',
    '/** The module that runs a command, loaded when it is needed. */',
    'export const MODULES = {',
    ...all.map(
      ({ id }) => `  ${JSON.stringify(id)}: () => import('../commands/${id.split('.').slice(-2).join('/')}.ts'),`,
    ),
    '} satisfies Record<string, () => Promise<CommandModule>>',
    '',
    'export type CommandId = keyof typeof MODULES',
  ].join('\n')
