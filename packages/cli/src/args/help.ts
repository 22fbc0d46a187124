import type { CliOption } from '@pyro/protocol'
import type { CommandEntry } from '../generated/commands.ts'
import { GLOBAL_OPTIONS } from './parse.ts'
import { nextWords } from './words.ts'

const COLUMN = 30
const WIDTH = 100

const INTRO = `Pyro gives a coding agent, or a person, an isolated Linux machine that lasts as long as the task: run commands in it, see
exactly what changed, take snapshots, and reset the whole machine to any of them instead of repairing it.`

const START = [
  'pyro workspace create debian:12 --name fix --seed-git .',
  'pyro workspace exec fix -- python3 -m unittest',
  'pyro workspace snapshot create fix green',
  'pyro workspace reset fix --snapshot green',
  'pyro workspace diff fix | git apply --3way',
]

/** Help of a group of commands, or of everything. */
export const groupHelp = (table: readonly CommandEntry[], words: readonly string[]): string => {
  const below = table.filter((entry) => words.every((word, index) => entry.words[index] === word))
  const lines = below.map((entry) => row(usageOf(entry).replace(/^pyro /, ''), entry.summary, 44))
  const head = words.length === 0 ? [INTRO, '', 'Start with:', ...START.map((line) => `  ${line}`), ''] : []
  const examples =
    words.length === 0
      ? []
      : ['', 'Examples:', ...below.flatMap((entry) => entry.examples.slice(0, 1).map(({ line }) => `  ${line}`))]
  return [
    ...head,
    'Commands:',
    ...lines,
    ...examples,
    '',
    `Aliases: ws = workspace, ls = list, rm = delete. Every command has --json, --quiet and --help.`,
    `Help of one: ${['pyro', ...words, nextWords(table, words)[0] ?? ''].join(' ')} --help`,
    '',
  ].join('\n')
}

export const commandHelp = (entry: CommandEntry): string => {
  const sections = [`${entry.summary}.`, ...(entry.description === undefined ? [] : ['', wrap(entry.description)])]
  sections.push('', 'Usage:', `  ${usageOf(entry)}`)
  if (entry.positionals.length > 0) {
    sections.push('', 'Arguments:', ...entry.positionals.map(({ label, summary }) => row(label, summary)))
  }
  sections.push('', 'Options:', ...[...entry.options, ...GLOBAL_OPTIONS].map(optionRow))
  sections.push('', 'Examples:')
  for (const { line, note } of entry.examples) sections.push(note === '' ? `  ${line}` : `  ${line}\n      ${note}`)
  return `${sections.join('\n')}\n`
}

export const usageOf = (entry: CommandEntry): string => {
  const positionals = entry.positionals.map(({ label, required, variadic, afterDashes }) => {
    const name = `${afterDashes === true ? '-- ' : ''}${label}${variadic === true ? '…' : ''}`
    return required ? name : `[${name}]`
  })
  const options = entry.options.length === 0 ? [] : ['[options]']
  const dashes = entry.positionals.findIndex((positional) => positional.afterDashes === true)
  if (dashes >= 0) positionals.splice(dashes, 0, ...options)
  return ['pyro', ...entry.words, ...positionals, ...(dashes >= 0 ? [] : options)].join(' ')
}

const optionRow = (option: CliOption): string => {
  const short = option.short === undefined ? '' : `-${option.short}, `
  const value = option.type === 'boolean' ? '' : ` ${option.value ?? 'V'}`
  const choices = option.choices === undefined ? '' : ` (${option.choices.join(', ')})`
  const standard = option.default === undefined ? '' : ` [${option.default}]`
  return row(`${short}--${option.flag}${value}`, `${option.summary}${choices}${standard}`)
}

const row = (left: string, right: string, column = COLUMN): string =>
  left.length + 2 < column ? `  ${left.padEnd(column - 2)}${right}` : `  ${left}\n${' '.repeat(column)}${right}`

const wrap = (text: string): string => {
  const lines = ['']
  for (const word of text.split(' ')) {
    const last = lines.at(-1) ?? ''
    if (last !== '' && last.length + 1 + word.length > WIDTH) lines.push(word)
    else lines[lines.length - 1] = last === '' ? word : `${last} ${word}`
  }
  return lines.join('\n')
}
