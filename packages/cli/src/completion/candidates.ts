import type { CliOption, CliPositional } from '@pyro/protocol'
import type { CommandEntry } from '../generated/commands.ts'
import { GLOBAL_OPTIONS } from '../args/parse.ts'
import { findCommand, nextWords } from '../args/words.ts'

type Completes = NonNullable<CliPositional['completes']>

export interface Candidates {
  readonly words: readonly string[]
  /** Names to ask the engine for, with what is known of the workspace they belong to. */
  readonly names: { readonly of: Exclude<Completes, 'path'>; readonly workspace: string | null } | null
  readonly files: boolean
  /** What stands before a candidate in the same word, e.g. `--driver=`. */
  readonly prefix: string
}

const NOTHING: Candidates = { words: [], names: null, files: false, prefix: '' }

/** What may stand where the cursor is: `words` are those up to and with the one being typed. */
export const candidatesFor = (table: readonly CommandEntry[], words: readonly string[]): Candidates => {
  const typed = words.at(-1) ?? ''
  const before = words.slice(0, -1)
  if (before.includes('--')) return { ...NOTHING, files: true }
  const found = findQuietly(table, before)
  if (found === null) return NOTHING
  const { entry, rest } = found
  const deeper = rest.length === 0 ? nextWords(table, found.words) : []
  if (entry === null) return typed.startsWith('-') ? options(GLOBAL_OPTIONS) : { ...NOTHING, words: deeper }
  return ofCommand(entry, rest, typed)
}

const findQuietly = (
  table: readonly CommandEntry[],
  before: readonly string[],
): ReturnType<typeof findCommand> | null => {
  try {
    return findCommand(table, before)
  } catch {
    // A wrong word before the cursor: there is nothing to offer behind it.
    return null
  }
}

const ofCommand = (entry: CommandEntry, rest: readonly string[], typed: string): Candidates => {
  const all = [...entry.options, ...GLOBAL_OPTIONS]
  const position = readRest(all, rest)
  const workspace = entry.positionals[0]?.completes === 'workspace' ? (position.positionals[0] ?? null) : null
  if (position.open !== null) return values(position.open, workspace, '')
  if (typed.startsWith('--') && typed.includes('=')) {
    const flag = typed.slice(0, typed.indexOf('='))
    const option = all.find((candidate) => `--${candidate.flag}` === flag)
    return option === undefined ? NOTHING : values(option, workspace, `${flag}=`)
  }
  if (typed.startsWith('-')) return options(all)
  return positional(entry, position.positionals.length, workspace)
}

interface Position {
  /** The option whose value is being typed. */
  readonly open: CliOption | null
  readonly positionals: readonly string[]
}

const readRest = (all: readonly CliOption[], rest: readonly string[]): Position => {
  const positionals: string[] = []
  let open: CliOption | null = null
  for (const word of rest) {
    if (open !== null) open = null
    else if (word.startsWith('-') && !word.includes('=')) {
      const option = all.find(
        ({ flag, short }) => word === `--${flag}` || (short !== undefined && word === `-${short}`),
      )
      if (option !== undefined && option.type !== 'boolean') open = option
    } else if (!word.startsWith('-')) positionals.push(word)
  }
  return { open, positionals }
}

const options = (all: readonly CliOption[]): Candidates => ({ ...NOTHING, words: all.map(({ flag }) => `--${flag}`) })

const values = (option: CliOption, workspace: string | null, prefix: string): Candidates => ({
  ...offered(option.completes, workspace),
  words: (option.choices ?? []).map((choice) => `${prefix}${choice}`),
  prefix,
})

const positional = (entry: CommandEntry, index: number, workspace: string | null): Candidates => {
  const last = entry.positionals.at(-1)
  const at = entry.positionals[index] ?? (last?.variadic === true && last.afterDashes !== true ? last : undefined)
  if (at === undefined) return NOTHING
  if (at.afterDashes === true) return { ...NOTHING, words: ['--'] }
  return { ...offered(at.completes, workspace), words: at.choices ?? [] }
}

const offered = (completes: Completes | undefined, workspace: string | null): Candidates => {
  if (completes === undefined) return NOTHING
  return completes === 'path' ? { ...NOTHING, files: true } : { ...NOTHING, names: { of: completes, workspace } }
}
