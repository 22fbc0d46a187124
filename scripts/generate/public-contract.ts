import {
  ERRORS,
  EXIT,
  isAbsent,
  LIMITS,
  LOCAL_COMMANDS,
  MCP_PROFILES,
  OPERATIONS,
  type CliFacet,
  type CliOption,
  type McpFacet,
  type Operation,
} from '@pyro/protocol'
import { INSTRUCTIONS, toolDefinitions } from '@pyro/mcp'
import { formatted, packageVersion, type GeneratedFile } from './generated-file.ts'
import { describeType, inputSchema, outputSchema, propertiesOf, type JsonSchema, type Property } from './json-schema.ts'
import { COMMON_ERRORS } from './openapi.ts'
import { errorTable } from './surfaces.ts'

const operations = Object.values(OPERATIONS) as readonly Operation[]

/** What the exit codes of the CLI mean beside the codes of a user's own command. */
const EXIT_MEANING: Readonly<Record<keyof typeof EXIT, string>> = {
  ok: 'done',
  other: 'anything else',
  usage: 'wrong usage or input',
  conflict: 'conflict, or the wrong state for this',
  notFound: 'not found',
  limit: 'a limit or no space',
  unsupported: 'unsupported here, or something is missing on the host',
  unreachable: 'engine or sandbox unreachable',
  timedOut: 'timed out',
}

const code = (text: string): string => `\`${text}\``
const cell = (text: string): string => text.replaceAll('\n', ' ').replaceAll(/(?<!\\)\|/g, '\\|')
const defaultOf = (schema: JsonSchema): string => ('default' in schema ? code(JSON.stringify(schema['default'])) : '')

/** What the field means: said by its schema, else by the option of the command line that sets it. */
const meaningOf = (operation: Operation, { name, schema }: Property): string => {
  if (typeof schema['description'] === 'string') return schema['description']
  if (isAbsent(operation.cli)) return ''
  const named = [...operation.cli.options, ...operation.cli.positionals].find(({ field }) => field === name)
  return named?.summary ?? ''
}

const fieldTable = (operation: Operation, fields: readonly Property[]): string =>
  [
    '| field | type | default | meaning |',
    '|---|---|---|---|',
    ...fields.map(
      (field) =>
        `| ${field.required ? `**${field.name}**` : field.name} | ${cell(describeType(field.schema))} | ${cell(defaultOf(field.schema))} | ${cell(meaningOf(operation, field))} |`,
    ),
  ].join('\n')

const resultTable = (schema: JsonSchema): string =>
  [
    '| field | type |',
    '|---|---|',
    ...propertiesOf(schema).map(
      ({ name, required, schema: inner }) =>
        `| ${name}${required ? '' : ' (may be absent)'} | ${cell(describeType(inner))} |`,
    ),
  ].join('\n')

const optionWords = ({ flag, short, value }: CliOption): string =>
  `${short === undefined ? '' : `-${short}, `}--${flag}${value === undefined ? '' : ` ${value}`}`

const synopsis = (cli: CliFacet): string => {
  const words = cli.positionals.map(({ label, required, variadic, afterDashes }) => {
    const name = `${afterDashes === true ? '-- ' : ''}${label}${variadic === true ? '…' : ''}`
    return required ? name : `[${name}]`
  })
  const beforeDashes = words.filter((word) => !word.startsWith('-- '))
  const afterDashes = words.filter((word) => word.startsWith('-- '))
  const options = cli.options.length === 0 ? [] : ['[options]']
  return ['pyro', ...cli.words, ...beforeDashes, ...options, ...afterDashes].join(' ')
}

const cliSection = (cli: CliFacet): string[] => {
  const lines = [`**CLI** ${code(synopsis(cli))}`]
  if (cli.options.length > 0) {
    lines.push(
      cli.options
        .map((option) => {
          const extra = [
            option.default === undefined ? '' : ` Default ${code(option.default)}.`,
            option.choices === undefined ? '' : ` One of ${option.choices.map(code).join(', ')}.`,
          ].join('')
          return `- ${code(optionWords(option))}: ${option.summary}.${extra}`
        })
        .join('\n'),
    )
  }
  lines.push(
    ['```sh', ...cli.examples.map(({ line, note }) => (note === '' ? line : `${line}  # ${note}`)), '```'].join('\n'),
  )
  return lines
}

const mcpSection = (mcp: McpFacet): string =>
  `**MCP** tool ${code(mcp.tool)} in ${mcp.profiles.map((profile) => `\`${profile}\``).join(', ')}${mcp.input === undefined ? ', with the fields above' : ''}`

const streamSection = (operation: Operation): string[] => [
  ...(operation.upload === undefined
    ? []
    : [`**Sends** ${operation.upload.what} (${code(operation.upload.frame)} frames).`]),
  ...(operation.download === undefined ? [] : [`**Streams** ${operation.download}.`]),
  ...(operation.event === undefined
    ? []
    : [
        `**Events** ${(
          (outputSchema(operation.event)['oneOf'] ??
            outputSchema(operation.event)['anyOf'] ?? [outputSchema(operation.event)]) as JsonSchema[]
        )
          .map((event) => code(describeType(event).replaceAll('\\|', '|')))
          .join(', ')}.`,
      ]),
]

const operationSection = (operation: Operation): string => {
  const { http, sdk, cli, mcp } = operation
  const fields = propertiesOf(inputSchema(operation.input))
  return [
    `### ${operation.id}`,
    `${operation.summary}.${operation.description === undefined ? '' : ` ${operation.description}`}`,
    fields.length === 0 ? 'Takes nothing.' : fieldTable(operation, fields),
    ...streamSection(operation),
    '**Result**',
    resultTable(outputSchema(operation.result)),
    `**Errors** ${[...operation.errors, ...COMMON_ERRORS].map(code).join(', ')}.`,
    isAbsent(http) ? `**HTTP** none: ${http.absent}.` : `**HTTP** ${code(`${http.method} ${http.path}`)}`,
    isAbsent(sdk) ? `**SDK** none: ${sdk.absent}.` : `**SDK** ${code(sdk.method)}`,
    isAbsent(mcp) ? `**MCP** none: ${mcp.absent}.` : mcpSection(mcp),
    ...(isAbsent(cli) ? [`**CLI** none: ${cli.absent}.`] : cliSection(cli)),
  ].join('\n\n')
}

const mcpProfiles = (): string =>
  MCP_PROFILES.map((profile) => {
    const tools = toolDefinitions(profile)
    if (profile === 'full') {
      return `**full** (${tools.length}): every operation that has a tool; answers add structured content.`
    }
    const rows = tools.map(({ name, description, inputSchema: schema }) => {
      const parameters = propertiesOf(schema).map((field) => (field.required ? `**${field.name}**` : field.name))
      return `| ${code(name)} | ${parameters.join(' ')} | ${cell(description)} |`
    })
    return [
      `**${profile}** (${tools.length}):`,
      ['| tool | parameters (**required**) | says |', '|---|---|---|', ...rows].join('\n'),
    ].join('\n\n')
  }).join('\n\n')

export const publicContract = async (): Promise<GeneratedFile> =>
  formatted(
    'docs/public-contract.md',
    [
      '# The public contract',
      `Version ${await packageVersion()}. Generated from \`packages/protocol/src/operations\` by \`npm run generate\`; do not edit.`,
      'What users can do, the same on every surface: HTTP on the unix socket of the engine (`spec/openapi.json`), the TypeScript SDK, the `pyro` command (`spec/cli.json`) and the MCP server (`spec/mcp-tools.json`).',
      '- Results are camelCase JSON. Times are RFC 3339 in UTC with milliseconds, sizes bytes, durations `…Ms`. What is absent is `null`.\n- Text that is not UTF-8 is decoded with U+FFFD and accompanied by `…Base64`.\n- `workspace` is an id (`ws-` + 12 characters) or a unique name. Fields in bold are required; unknown fields are refused.\n- Streams are frames: see the description in `spec/openapi.json`.',
      '## Operations',
      operations.map(({ id, summary }) => `- [${code(id)}](#${id.replaceAll('.', '')}): ${summary}`).join('\n'),
      ...operations.map(operationSection),
      '## On the command line alone',
      ...LOCAL_COMMANDS.map((command) =>
        [
          `### ${command.id}`,
          `${command.summary}.${command.description === undefined ? '' : ` ${command.description}`} No other surface has it: ${command.reason}.`,
          ...cliSection(command.cli),
        ].join('\n\n'),
      ),
      '## MCP',
      `Instructions to the host: “${INSTRUCTIONS}”`,
      mcpProfiles(),
      '## Errors',
      'One catalogue on every surface. "again?": the same call may succeed later without a change.',
      errorTable(),
      '## Exit codes',
      '`exec`, `run` and `command wait` end with the code of the command itself: 128+N for a signal, 124 for a timeout, 126 and 127 for a command that cannot run or is not found, **125** when Pyro itself failed. All others:',
      Object.entries(EXIT)
        .map(([name, value]) => `- ${value}: ${EXIT_MEANING[name as keyof typeof EXIT]}`)
        .join('\n'),
      '## Limits',
      [
        '| limit | number |',
        '|---|---|',
        ...Object.entries(LIMITS).map(([name, value]) => `| ${name} | ${value.toLocaleString('en-US')} |`),
      ].join('\n'),
      `${operations.length} operations, ${Object.keys(ERRORS).length} error codes.`,
    ].join('\n\n'),
    'markdown',
  )
