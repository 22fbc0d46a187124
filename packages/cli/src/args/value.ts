import { LOST_FIELD } from '@pyro/protocol/client'
import type { CliOption } from '@pyro/protocol'
import { parseDuration } from './duration.ts'
import { nearest } from './nearest.ts'
import { usageError } from './usage-error.ts'

export type OptionValue = boolean | string | number | null | readonly string[] | Readonly<Record<string, string>>

type Parse = (option: CliOption, text: string, command: string) => OptionValue

/** Turns the text of an option into what its field takes. */
export const optionValue: Parse = (option, text, command) => PARSERS[option.type](option, text, command)

/** `--no-pull` sets `pull` to false. */
const booleanValue = (option: CliOption, text: string, command: string): boolean => {
  if (text !== 'true' && text !== 'false') throw bad(option, text, 'true or false, or nothing', command)
  const negated = option.field !== null && option.flag === `no-${option.field}`
  return (text === 'true') !== negated
}

const intValue = (option: CliOption, text: string, command: string): number => {
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(Number(text))) throw bad(option, text, 'a whole number', command)
  return Number(text)
}

const choice = (option: CliOption, text: string, command: string): string => {
  const { choices } = option
  if (choices === undefined || choices.includes(text) || isHidden(option, text)) return text
  const similar = nearest(text, choices)
  throw usageError(
    `--${option.flag} ${JSON.stringify(text)} is none of ${choices.join(', ')}`,
    similar === null ? `${command} --help` : `did you mean: --${option.flag} ${similar}`,
  )
}

/** For tests, and named nowhere a user looks; the engine refuses it unless it was started with the switch for it. */
const HIDDEN_DRIVER = 'fake'

const isHidden = (option: CliOption, text: string): boolean => option.flag === 'driver' && text === HIDDEN_DRIVER

const durationValue = (option: CliOption, text: string, command: string): number | null => {
  if (text === 'none') return null
  const durationMs = parseDuration(text)
  if (durationMs === null) throw bad(option, text, 'a duration such as 500ms, 2s, 5m, 1h or 7d', command)
  return durationMs
}

const keyValue = (option: CliOption, text: string, command: string): Record<string, string> => {
  const at = text.indexOf('=')
  if (at < 1) throw bad(option, text, 'of the form K=V', command)
  if (text.slice(0, at) === LOST_FIELD)
    throw usageError(
      `--${option.flag} ${JSON.stringify(text)}: nothing can have the name ${LOST_FIELD}`,
      'use another name',
    )
  return { [text.slice(0, at)]: text.slice(at + 1) }
}

const bad = (option: CliOption, text: string, wanted: string, command: string): Error =>
  usageError(`--${option.flag} ${JSON.stringify(text)} is not ${wanted}`, `${command} --help`)

const PARSERS: Readonly<Record<CliOption['type'], Parse>> = {
  boolean: booleanValue,
  string: choice,
  int: intValue,
  duration: durationValue,
  'key-value': keyValue,
  list: (_option, text) => [text],
}
