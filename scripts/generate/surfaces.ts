import { ERRORS, EXIT, isAbsent, LOCAL_COMMANDS, MCP_PROFILES, OPERATIONS, type Operation } from '@pyro/protocol'
import { INSTRUCTIONS, toolDefinitions } from '@pyro/mcp'
import { formatted, jsonFile, type GeneratedFile } from './generated-file.ts'

const operations = Object.values(OPERATIONS) as readonly Operation[]

/** What `tools/list` answers, per profile, to the letter. */
export const mcpTools = (): Promise<GeneratedFile> =>
  jsonFile('spec/mcp-tools.json', {
    instructions: INSTRUCTIONS,
    profiles: Object.fromEntries(MCP_PROFILES.map((profile) => [profile, toolDefinitions(profile)])),
    absent: Object.fromEntries(operations.flatMap(({ id, mcp }) => (isAbsent(mcp) ? [[id, mcp.absent] as const] : []))),
  })

/** Every command line of the contract, with what its words set. */
export const cliSpec = (): Promise<GeneratedFile> =>
  jsonFile('spec/cli.json', {
    exitCodes: EXIT,
    commands: operations.flatMap(({ id, summary, description, cli }) =>
      isAbsent(cli) ? [] : [{ operation: id, summary, description: description ?? null, ...cli }],
    ),
    local: LOCAL_COMMANDS.map(({ cli, ...command }) => ({ ...command, ...cli })),
    absent: Object.fromEntries(operations.flatMap(({ id, cli }) => (isAbsent(cli) ? [[id, cli.absent] as const] : []))),
  })

export const errorTable = (): string =>
  [
    '| code | HTTP | exit | again? | when |',
    '|---|---|---|---|---|',
    ...Object.entries(ERRORS).map(
      ([code, { status, exit, retryable, summary }]) =>
        `| \`${code}\` | ${status} | ${exit} | ${retryable ? 'yes' : 'no'} | ${summary} |`,
    ),
  ].join('\n')

export const errors = (): Promise<GeneratedFile> =>
  formatted(
    'spec/errors.md',
    [
      '# Errors',
      'Every failure that leaves Pyro, on any surface, carries one of these codes, a message that names the thing and says whether anything was changed, and a hint that says what to do next. "again?": the same call may succeed later without a change. Commands that end with the exit code of a user\'s own command (`exec`, `run`, `command wait`) use 125 for all of them.',
      errorTable(),
    ].join('\n\n'),
    'markdown',
  )
