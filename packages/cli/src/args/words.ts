import type { CommandEntry } from '../generated/commands.ts'
import { nearest } from './nearest.ts'
import { usageError } from './usage-error.ts'

const NOUN_ALIASES: Readonly<Record<string, string>> = {
  ws: 'workspace',
  environment: 'env',
  snap: 'snapshot',
  cmd: 'command',
}
const VERB_ALIASES: Readonly<Record<string, readonly string[]>> = { ls: ['list'], rm: ['delete', 'remove'] }

export interface FoundCommand {
  /** Null when the words name a group, or nothing at all. */
  readonly entry: CommandEntry | null
  /** As the table spells them. */
  readonly words: readonly string[]
  /** What follows the words. */
  readonly rest: readonly string[]
}

/** Words that may come next after these. */
export const nextWords = (table: readonly CommandEntry[], words: readonly string[]): string[] => {
  const below = table.filter((entry) => startsWith(entry.words, words) && entry.words.length > words.length)
  return [...new Set(below.map((entry) => entry.words[words.length] ?? ''))]
}

/** Takes the words of a command off the front of the arguments. */
export const findCommand = (table: readonly CommandEntry[], args: readonly string[]): FoundCommand => {
  const words: string[] = []
  for (;;) {
    const entry = table.find((candidate) => candidate.words.join(' ') === words.join(' ')) ?? null
    const next = nextWords(table, words)
    const arg = args[words.length]
    if (next.length === 0 || arg === undefined || arg.startsWith('-'))
      return { entry, words, rest: args.slice(words.length) }
    const word = resolveWord(arg, next)
    if (word === null) throw unknownWord(arg, words, next)
    words.push(word)
  }
}

const resolveWord = (arg: string, next: readonly string[]): string | null => {
  if (next.includes(arg)) return arg
  const aliases = [NOUN_ALIASES[arg] ?? '', ...(VERB_ALIASES[arg] ?? [])]
  return aliases.find((alias) => next.includes(alias)) ?? null
}

const unknownWord = (arg: string, words: readonly string[], next: readonly string[]): Error => {
  const similar = nearest(arg, next)
  const full = ['pyro', ...words].join(' ')
  return usageError(
    `${full} has no command ${JSON.stringify(arg)}`,
    similar === null ? `${full} --help` : `did you mean: ${full} ${similar}`,
  )
}

const startsWith = (words: readonly string[], prefix: readonly string[]): boolean =>
  prefix.every((word, index) => words[index] === word)
