import { isAbsent, LOCAL_COMMANDS, OPERATIONS, type CliFacet, type Operation } from '@pyro/protocol'
import { commandHelp, groupHelp } from '../../packages/cli/src/args/help.ts'
import type { CommandEntry } from '../../packages/cli/src/generated/commands.ts'
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
    help(all),
    formatted('packages/cli/src/generated/commands.ts', table(all), 'typescript'),
    formatted('packages/cli/src/generated/modules.ts', modules(all), 'typescript'),
  ])
}

/** Every `--help` as it is printed, for readers of a change. */
const help = (all: readonly Command[]): Promise<GeneratedFile> => {
  const entries = JSON.parse(JSON.stringify(all)) as readonly CommandEntry[]
  const groups = new Set(
    entries.flatMap(({ words }) => words.slice(1).map((_, at) => words.slice(0, at + 1).join(' '))),
  )
  const texts = [
    ['pyro', groupHelp(entries, [])],
    ...[...groups].map((words) => [`pyro ${words}`, groupHelp(entries, words.split(' '))] as const),
    ...entries.map((entry) => [`pyro ${entry.words.join(' ')}`, commandHelp(entry)] as const),
  ]
  const text = texts.map(([command, printed]) => `$ ${command} --help\n${printed}`).join('\n')
  return Promise.resolve({ path: 'spec/help.txt', text })
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
