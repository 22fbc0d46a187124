import { isDeepStrictEqual } from 'node:util'
import { applyEdits, modify, parse as parseJsonc, printParseErrorCode, type ParseError } from 'jsonc-parser'
import { parse as parseToml, stringify as stringifyToml } from 'smol-toml'
import { PyroError } from '@pyro/protocol'
import type { ClientConfig } from './clients.ts'

/** Name under which the server stands in every host. */
export const SERVER_NAME = 'pyro'

/** A configuration with the server in it: everything else, comments and layout included, stays as it is. */
export const merge = (
  config: ClientConfig,
  text: string,
  entry: Readonly<Record<string, unknown>>,
  file: string,
): string => (config.format === 'json' ? mergeJson(config, text, entry, file) : mergeToml(config, text, entry, file))

const mergeJson = (
  config: ClientConfig,
  text: string,
  entry: Readonly<Record<string, unknown>>,
  file: string,
): string => {
  if (text.trim() === '') {
    const whole = { ...config.preamble, ...nested([...config.section, SERVER_NAME], entry) }
    return `${JSON.stringify(whole, null, 2)}\n`
  }
  const errors: ParseError[] = []
  const current: unknown = parseJsonc(text, errors, { allowTrailingComma: true })
  const [error] = errors
  if (error !== undefined) throw unreadable(file, `${printParseErrorCode(error.error)} at byte ${error.offset}`)
  if (typeof current !== 'object' || current === null || Array.isArray(current))
    throw unreadable(file, 'it is no object')
  const path = [...sectionOf(config, current), SERVER_NAME]
  if (isDeepStrictEqual(valueAt(current, path), entry)) return text
  const formattingOptions = {
    insertSpaces: !/^\t/m.test(text),
    tabSize: indentOf(text),
    eol: text.includes('\r\n') ? '\r\n' : '\n',
  }
  return applyEdits(text, modify(text, path, entry, { formattingOptions }))
}

/** opencode 2 nests its servers one level deeper than opencode 1; a file keeps the form it has. */
const sectionOf = ({ section }: ClientConfig, current: object): readonly string[] => {
  const servers = valueAt(current, [...section, 'servers'])
  const nestedServers = typeof servers === 'object' && servers !== null && !('type' in servers)
  return nestedServers ? [...section, 'servers'] : section
}

const indentOf = (text: string): number => /^( +)\S/m.exec(text)?.[1]?.length ?? 2

const valueAt = (value: unknown, path: readonly string[]): unknown =>
  path.reduce<unknown>(
    (at, key) => (typeof at === 'object' && at !== null ? (at as Record<string, unknown>)[key] : undefined),
    value,
  )

const nested = (path: readonly string[], value: unknown): Record<string, unknown> => {
  const [head, ...rest] = path
  return head === undefined
    ? (value as Record<string, unknown>)
    : { [head]: rest.length === 0 ? value : nested(rest, value) }
}

/**
 * TOML is merged as text: our table, with its sub-tables, is cut out where it stands and written at the end; the parser proves before
 * and after that nothing else has changed.
 */
const mergeToml = (
  config: ClientConfig,
  text: string,
  entry: Readonly<Record<string, unknown>>,
  file: string,
): string => {
  const path = [...config.section, SERVER_NAME]
  const before = tomlOf(text, file)
  if (isDeepStrictEqual(valueAt(before, path), entry)) return text
  const rest = withoutTable(text, path.join('.')).replace(/\n*$/, '')
  const table = stringifyToml(nested(path, entry)).trimEnd()
  const merged = `${rest === '' ? '' : `${rest}\n\n`}${table}\n`
  const after = tomlOf(merged, file)
  if (!isDeepStrictEqual(plain(after, path, entry), plain(before, path, entry))) {
    throw unreadable(file, `its ${path.join('.')} is written in a form that cannot be replaced safely`)
  }
  return merged
}

/** The whole document with the same server in it: equal before and after when nothing else differs. */
const plain = (document: unknown, path: readonly string[], entry: unknown): unknown => {
  const copy = structuredClone(document) as Record<string, unknown>
  const section = path.slice(0, -1).reduce<Record<string, unknown>>((at, key) => {
    at[key] ??= {}
    return at[key] as Record<string, unknown>
  }, copy)
  section[SERVER_NAME] = entry
  return copy
}

const withoutTable = (text: string, table: string): string => {
  let inside = false
  return text
    .split('\n')
    .filter((line) => {
      const header = /^\s*\[\[?\s*([^\]]+?)\s*\]\]?/.exec(line)?.[1]?.replaceAll(/["'\s]/g, '')
      if (header !== undefined) inside = header === table || header.startsWith(`${table}.`)
      return !inside
    })
    .join('\n')
}

const tomlOf = (text: string, file: string): unknown => {
  try {
    return parseToml(text)
  } catch (error) {
    throw unreadable(file, error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error))
  }
}

const unreadable = (file: string, why: string): PyroError =>
  new PyroError('input.invalid', `${file} cannot be merged: ${why}; nothing was changed`, {
    hint: 'add the server by hand: run the same command with --print',
  })
