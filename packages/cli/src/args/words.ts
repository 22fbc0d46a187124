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

/** What tools of the same kind call it. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  attach: 'workspace logs',
  build: 'env import',
  commit: 'workspace snapshot create',
  cp: 'workspace sync push',
  down: 'workspace delete',
  images: 'env list',
  kill: 'workspace command kill',
  ps: 'workspace list',
  restore: 'workspace reset',
  rmi: 'env remove',
  shell: 'workspace exec',
  ssh: 'workspace exec',
  up: 'workspace create',
}

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
    if (word === null) throw unknownWord(table, arg, words)
    words.push(word)
  }
}

const resolveWord = (arg: string, next: readonly string[]): string | null => {
  if (next.includes(arg)) return arg
  const aliases = [NOUN_ALIASES[arg] ?? '', ...(VERB_ALIASES[arg] ?? [])]
  return aliases.find((alias) => next.includes(alias)) ?? null
}

const unknownWord = (table: readonly CommandEntry[], arg: string, words: readonly string[]): Error => {
  const full = ['pyro', ...words].join(' ')
  const below = (found: string | null): string | null => (found === null ? null : `${full} ${found}`)
  const elsewhere = ELSEWHERE[arg] === undefined ? null : `pyro ${ELSEWHERE[arg]}`
  const meant = below(deeper(table, arg, words)) ?? elsewhere ?? below(nearest(arg, nextWords(table, words)))
  return usageError(
    `${full} has no command ${JSON.stringify(arg)}`,
    meant === null ? `${full} --help` : `did you mean: ${meant}`,
  )
}

/** The words up to this one where it stands further down: `exec` is `workspace exec`. The first in the table wins. */
const deeper = (table: readonly CommandEntry[], arg: string, words: readonly string[]): string | null => {
  const names = [arg, NOUN_ALIASES[arg] ?? '', ...(VERB_ALIASES[arg] ?? [])]
  for (const entry of table) {
    if (!startsWith(entry.words, words)) continue
    const below = entry.words.slice(words.length)
    const at = below.findIndex((word) => names.includes(word))
    if (at > 0) return below.slice(0, at + 1).join(' ')
  }
  return null
}

const startsWith = (words: readonly string[], prefix: readonly string[]): boolean =>
  prefix.every((word, index) => words[index] === word)
