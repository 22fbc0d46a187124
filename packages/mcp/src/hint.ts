/**
 * Hints are written for the command line. Here a command becomes the tool of the same operation and an option the parameter of the
 * tool that was called; what a model can do neither way is left out. Commands about the host stay: their reader can pass them on.
 */
import { isAbsent, OPERATIONS, type McpProfile, type Operation, type OperationId } from '@pyro/protocol'
import { z } from 'zod'
import { toolSources, type ToolSource } from './tool-list.ts'

/** Where a profile has no tool of an operation, what says or does the same. */
const STAND_INS: Partial<Readonly<Record<OperationId, OperationId>>> = {
  'workspace.status': 'workspace.list',
  'workspace.snapshot.list': 'workspace.list',
  'workspace.command.list': 'workspace.list',
  'workspace.command.kill': 'workspace.command.wait',
  'workspace.logs': 'workspace.command.wait',
}

/** Parts of hints that a tool has other words for. */
const OTHER_WORDS: Readonly<Record<string, string>> = {
  'use --root / for a path anywhere in the machine': 'an absolute path is anywhere in the machine',
  '--format tar writes an archive that can hold it': 'pack it into an archive in the workspace and export that file',
  'create a workspace with a larger --memory-mib for work that needs more':
    'create a workspace with a larger memoryMib for work that needs more',
}

const HELP = /^pyro [a-z ]+ --help$|^--help /
/** Between parts of a hint that stand for themselves. */
const BETWEEN_PARTS = /(; or |; |, or |, |\? )/
/** Options of the server itself: whoever started it can set them. */
const OF_SERVER = /--(?:project-path|allow-read|allow-write)\b/g
const OPTION = /--([a-z][a-z-]*)/g
/** Operations on the host, which a person can do there. */
const ON_HOST: ReadonlySet<string> = new Set(['env', 'doctor'])

/** Null when nothing of the hint can be followed with the tools of this profile. */
export const mcpHint = (hint: string, source: ToolSource, profile: McpProfile): string | null => {
  if (HELP.test(hint)) return `parameters: ${parameterNames(source.input).join(', ')}`
  const [first = '', ...rest] = hint.split(BETWEEN_PARTS)
  const parts = [{ before: '', text: first }]
  for (let at = 0; at < rest.length; at += 2) parts.push({ before: rest[at] ?? '', text: rest[at + 1] ?? '' })
  const kept = parts.flatMap(({ before, text }) => {
    const words = OTHER_WORDS[text] ?? withParameters(withTools(text, profile), source)
    return words === null ? [] : [{ before, text: words }]
  })
  return kept.length === 0 ? null : kept.map(({ before, text }, index) => (index === 0 ? text : before + text)).join('')
}

/** The parameters that a tool takes, as a hint names them. */
export const parameterNames = (input: z.ZodType): readonly string[] =>
  fieldsOf(input).map(([name, field]) =>
    field instanceof z.ZodType && !field.safeParse(undefined).success ? `${name} (required)` : name,
  )

const fieldsOf = (input: z.ZodType): readonly (readonly [string, unknown])[] =>
  input instanceof z.ZodObject ? Object.entries(input.shape) : []

/** Null when a command has no tool. */
const withTools = (part: string, profile: McpProfile): string | null => {
  let text = part
  for (const { command, tool, onHost } of commandsOf(profile)) {
    const at = text.indexOf(command)
    if (at < 0 || /^\w/.test(text.slice(at + command.length))) continue
    if (tool !== null) text = text.replace(command, tool).replace(' -- CMD', '')
    else if (!onHost) return null
  }
  return text
}

interface CommandOfTool {
  readonly command: string
  /** Null where the profile has none. */
  readonly tool: string | null
  readonly onHost: boolean
}

const commandsOf = (profile: McpProfile): readonly CommandOfTool[] => {
  const tools = new Map(toolSources(profile).map(({ id, facet }) => [id, facet.tool]))
  return (Object.entries(OPERATIONS) as [OperationId, Operation][]).flatMap(([id, { cli }]) => {
    if (isAbsent(cli)) return []
    const standIn = STAND_INS[id]
    const tool = tools.get(id) ?? (standIn === undefined ? undefined : tools.get(standIn)) ?? null
    return [{ command: `pyro ${cli.words.join(' ')}`, tool, onHost: ON_HOST.has(cli.words[0] ?? '') }]
  })
}

/** Null when an option is no parameter. */
const withParameters = (part: string | null, { operation, input }: ToolSource): string | null => {
  if (part === null) return null
  const known = new Set(fieldsOf(input).map(([name]) => name))
  const options = isAbsent(operation.cli) ? [] : operation.cli.options
  const parameterOf = (flag: string): string | null => {
    const field = options.find((option) => option.flag === flag)?.field ?? camelCase(flag)
    return known.has(field) ? field : null
  }
  const flags = [...part.replaceAll(OF_SERVER, '').matchAll(OPTION)].map(([, flag = '']) => flag)
  if (flags.some((flag) => parameterOf(flag) === null)) return null
  return part.replaceAll(OPTION, (option, flag: string) => parameterOf(flag) ?? option)
}

const camelCase = (flag: string): string => flag.replaceAll(/-(\w)/g, (_, letter: string) => letter.toUpperCase())
