import type { CliOption, CliPositional } from '@pyro/protocol'
import type { CommandEntry } from '../generated/commands.ts'
import { nearest } from './nearest.ts'
import { usageError } from './usage-error.ts'
import { optionValue, type OptionValue } from './value.ts'

export interface ParsedArguments {
  /** Fields of the operation's input. */
  readonly input: Readonly<Record<string, unknown>>
  /** Options that the command itself handles, by flag. */
  readonly flags: Readonly<Record<string, OptionValue>>
  /** Arguments that name something on this host, by label. */
  readonly host: Readonly<Record<string, string>>
  readonly json: boolean
  readonly quiet: boolean
  readonly help: boolean
}

/** Options every command has. */
export const GLOBAL_OPTIONS: readonly CliOption[] = [
  { flag: 'json', field: null, type: 'boolean', summary: 'one JSON document on standard output, also for failures' },
  { flag: 'quiet', field: null, type: 'boolean', summary: 'no summary, progress or hints (-q)' },
  { flag: 'help', field: null, type: 'boolean', summary: 'this help (-h)' },
]
/** `-iq` is `-i -q`; none of them takes a value. */
const SEVERAL_SHORT = /^-[a-z]{2,}$/
const GLOBAL_SHORT: Readonly<Record<string, string>> = { q: 'quiet', h: 'help' }

/** Reads what follows the words of a command. */
export const parseArguments = (entry: CommandEntry, args: readonly string[]): ParsedArguments => {
  const reader = new ArgumentReader(entry, args)
  reader.read()
  return reader.finish()
}

class ArgumentReader {
  readonly #entry: CommandEntry
  readonly #args: readonly string[]
  readonly #positionals: string[] = []
  #afterDashes: readonly string[] | null = null
  readonly #input: Record<string, unknown> = {}
  readonly #flags: Record<string, OptionValue> = {}

  constructor(entry: CommandEntry, args: readonly string[]) {
    this.#entry = entry
    this.#args = args
  }

  read(): void {
    for (let index = 0; index < this.#args.length;) {
      const arg = this.#args[index] ?? ''
      if (arg === '--') {
        this.#dashes(this.#args.slice(index + 1))
        return
      }
      if (arg === '-' || !arg.startsWith('-')) {
        this.#positionals.push(arg)
        index++
      } else index += this.#option(arg, this.#args[index + 1])
    }
  }

  finish(): ParsedArguments {
    const { json, quiet, help, ...flags } = this.#flags
    const host = help === true ? {} : this.#bindPositionals()
    return {
      input: this.#input,
      flags,
      host,
      json: json === true,
      quiet: quiet === true,
      help: help === true,
    }
  }

  /** Behind `--` everything belongs to the command that has such an argument, else it is ordinary arguments. */
  #dashes(rest: readonly string[]): void {
    if (this.#entry.positionals.some((positional) => positional.afterDashes === true)) this.#afterDashes = rest
    else this.#positionals.push(...rest)
  }

  /** Returns how many arguments it took. */
  #option(arg: string, next: string | undefined): number {
    if (SEVERAL_SHORT.test(arg)) {
      for (const letter of arg.slice(1)) this.#option(`-${letter}`, undefined)
      return 1
    }
    const [name, inline] = splitOnce(arg, '=')
    const option = this.#findOption(name)
    if (option.type === 'boolean') {
      this.#set(option, optionValue(option, inline ?? 'true', this.#name))
      return 1
    }
    if (inline !== undefined) {
      this.#set(option, optionValue(option, inline, this.#name))
      return 1
    }
    if (next === undefined || next === '--') {
      throw usageError(`--${option.flag} needs a value (${option.value ?? 'VALUE'})`, `${this.#name} --help`)
    }
    this.#set(option, optionValue(option, next, this.#name))
    return 2
  }

  #findOption(name: string): CliOption {
    const all = [...this.#entry.options, ...GLOBAL_OPTIONS]
    const found = name.startsWith('--')
      ? all.find((option) => option.flag === name.slice(2))
      : all.find((option) => option.short === name.slice(1) || GLOBAL_SHORT[name.slice(1)] === option.flag)
    if (found !== undefined) return found
    const similar = name.startsWith('--')
      ? nearest(
          name.slice(2),
          all.map((option) => option.flag),
        )
      : null
    throw usageError(
      `${this.#name} has no option ${name}`,
      similar === null ? `${this.#name} --help` : `did you mean: --${similar}`,
    )
  }

  #set(option: CliOption, value: OptionValue): void {
    const target: Record<string, unknown> = option.field === null ? this.#flags : this.#input
    const key = option.field ?? option.flag
    const before = target[key]
    if (option.type === 'key-value') target[key] = { ...(before as object | undefined), ...(value as object) }
    else if (option.type === 'list') target[key] = [...((before as string[] | undefined) ?? []), ...(value as string[])]
    else target[key] = value
  }

  #bindPositionals(): Record<string, string> {
    const host: Record<string, string> = {}
    const left = [...this.#positionals]
    this.#refuseCommandWithoutDashes()
    for (const positional of this.#entry.positionals) {
      const values = this.#take(positional, left)
      if (values.length === 0) {
        if (positional.required) throw this.#missing(positional)
        continue
      }
      if (positional.field === null) host[positional.label] = values[0] ?? ''
      else this.#input[positional.field] = positional.variadic === true ? values : values[0]
    }
    const [extra] = left
    if (extra !== undefined) throw this.#unexpected(extra)
    return host
  }

  #refuseCommandWithoutDashes(): void {
    if (this.#afterDashes !== null) return
    const before = this.#entry.positionals.filter((positional) => positional.afterDashes !== true)
    const extra = this.#positionals[before.length]
    if (before.length < this.#entry.positionals.length && extra !== undefined) throw this.#unexpected(extra)
  }

  #take(positional: CliPositional, left: string[]): readonly string[] {
    if (positional.afterDashes === true) return this.#afterDashes ?? []
    return left.splice(0, positional.variadic === true ? left.length : 1)
  }

  #missing(positional: CliPositional): Error {
    const what = positional.afterDashes === true ? `-- ${positional.label}` : positional.label
    return usageError(`${this.#name} needs ${what}: ${positional.summary}`, this.#usageHint)
  }

  #unexpected(extra: string): Error {
    const dashes = this.#entry.positionals.some((positional) => positional.afterDashes === true)
    return usageError(
      `${this.#name} takes no argument ${JSON.stringify(extra)} here`,
      dashes ? `put the command behind --: ${this.#example}` : this.#usageHint,
    )
  }

  get #name(): string {
    return ['pyro', ...this.#entry.words].join(' ')
  }

  get #example(): string {
    return this.#entry.examples[0]?.line ?? `${this.#name} --help`
  }

  get #usageHint(): string {
    return `for example: ${this.#example}`
  }
}

const splitOnce = (text: string, separator: string): [string, string | undefined] => {
  const at = text.indexOf(separator)
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)]
}
