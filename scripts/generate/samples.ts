import type { JsonSchema } from './json-schema.ts'
import { alternatives, propertiesOf } from './json-schema.ts'

/** A message that a schema accepts, or one it refuses, with a name that says why. */
export interface Sample {
  readonly name: string
  readonly value: unknown
}

export const EVERYTHING_GIVEN = 'everything given'

/** Strings longer than this are not put into a fixture: their schemas are bounded by size elsewhere. */
const LONGEST_FIXTURE_STRING = 512
/** Text that breaks careless encoders: quotes, control characters, beyond the BMP. */
const AWKWARD_TEXT = 'a "b" \\ \t ü 𝄞'

const FORMATTED: Readonly<Record<string, string>> = {
  uuid: '51b258d5-bca4-492f-9c99-24ccdbf58cac',
  base64: 'AP8KZMO8cg==',
}

const sampleString = (name: string, schema: JsonSchema, full: boolean): string => {
  const length = schema['minLength'] as number | undefined
  const longest = (schema['maxLength'] as number | undefined) ?? Number.MAX_SAFE_INTEGER
  if (length !== undefined && length === longest)
    return '0123456789abcdef'.repeat(Math.ceil(length / 16)).slice(0, length)
  const formatted = FORMATTED[schema['format'] as string]
  if (formatted !== undefined) return formatted
  if (name.endsWith('Base64')) return full ? 'AP8KZMO8cg==' : ''
  if (/^(mode|oldMode)$/.test(name)) return full ? '100755' : '100644'
  const text = full ? AWKWARD_TEXT : 'x'
  return text.slice(0, longest)
}

/** A value that the schema accepts: with every field and long lists (`full`), or with as little as it takes. */
export const sample = (name: string, schema: JsonSchema, full: boolean): unknown => {
  if ('const' in schema) return schema['const']
  if (Array.isArray(schema['enum'])) return full ? schema['enum'].at(-1) : schema['enum'][0]
  const union = alternatives(schema)
  if (union !== null) {
    const nullable = union.find((option) => option['type'] === 'null')
    if (nullable !== undefined && !full) return null
    return sample(name, union.find((option) => option !== nullable) ?? {}, full)
  }
  switch (schema['type']) {
    case 'object': {
      const fields = propertiesOf(schema).filter(({ required }) => full || required)
      return Object.fromEntries(fields.map((field) => [field.name, sample(field.name, field.schema, full)]))
    }
    case 'array': {
      const items = (schema['items'] as JsonSchema | undefined) ?? {}
      const least = (schema['minItems'] as number | undefined) ?? 0
      return Array.from({ length: full ? Math.max(2, least) : least }, (_, index) =>
        sample(name, items, index % 2 === 0 && full),
      )
    }
    case 'integer': {
      const low = Number(
        schema['minimum'] ?? (schema['exclusiveMinimum'] === undefined ? 0 : Number(schema['exclusiveMinimum']) + 1),
      )
      const high = Number(schema['maximum'] ?? 4_294_967_297)
      return full ? Math.min(high, 4_294_967_297) : Math.max(0, low)
    }
    case 'boolean':
      return full
    case 'null':
      return null
    case 'string':
      return sampleString(name, schema, full)
    default:
      return full ? { any: 1 } : {}
  }
}

/** The accepted samples of a message, one pair for each form it can have. */
export const accepted = (schema: JsonSchema): readonly Sample[] => {
  const forms = alternatives(schema) ?? [schema]
  return forms.flatMap((form, index) => {
    const prefix = forms.length > 1 ? `form ${index + 1}, ` : ''
    return [
      { name: `${prefix}${EVERYTHING_GIVEN}`, value: sample('', form, true) },
      { name: `${prefix}as little as it takes`, value: sample('', form, false) },
    ]
  })
}

type Path = readonly (string | number)[]

const replaceAt = (value: unknown, path: Path, change: (inner: unknown) => unknown): unknown => {
  const [head, ...rest] = path
  if (head === undefined) return change(value)
  if (Array.isArray(value))
    return value.map((inner, index) => (index === head ? replaceAt(inner, rest, change) : inner))
  return Object.fromEntries(
    Object.entries(value as Record<string, unknown>).map(([key, inner]) => [
      key,
      key === head ? replaceAt(inner, rest, change) : inner,
    ]),
  )
}

const without = (value: unknown, path: Path): unknown => {
  const name = path.at(-1)
  return replaceAt(value, path.slice(0, -1), (parent) =>
    Object.fromEntries(Object.entries(parent as Record<string, unknown>).filter(([key]) => key !== name)),
  )
}

/** Every scalar and object inside a value, by path. */
const walk = function* (value: unknown, path: Path = []): Generator<{ path: Path; value: unknown }> {
  yield { path, value }
  if (Array.isArray(value)) {
    // The first element stands for all: its siblings pass through the same schema.
    if (value.length > 0) yield* walk(value[0], [...path, 0])
  } else if (typeof value === 'object' && value !== null) {
    for (const [key, inner] of Object.entries(value)) yield* walk(inner, [...path, key])
  }
}

/** Values that a field must not take quietly; what the schema does accept of them is dropped by the caller. */
const hostileValues = (value: unknown): readonly (readonly [string, unknown])[] => [
  ['null', null],
  ['a number', 7],
  ['negative', -1],
  ['a fraction', 0.5],
  ['beyond 2^53', 2 ** 60],
  ['a text', typeof value === 'string' ? 7 : 'x'],
  ['an object', { unexpected: true }],
  ['a list', [[]]],
  ['oversize', typeof value === 'string' ? 'x'.repeat(LONGEST_FIXTURE_STRING) : null],
]

/**
 * Mutations of an accepted message: each field missing, of the wrong kind, negative, oversize, and one unknown field. The
 * caller keeps those that the schema refuses.
 */
export const mutations = function* (message: unknown): Generator<Sample> {
  for (const { path, value } of walk(message)) {
    const at = path.length === 0 ? 'the message' : path.join('.')
    if (typeof path.at(-1) === 'string') yield { name: `${at} missing`, value: without(message, path) }
    for (const [what, hostile] of hostileValues(value)) {
      yield { name: `${at} is ${what}`, value: replaceAt(message, path, () => hostile) }
    }
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
      yield {
        name: `${at} has an unknown field`,
        value: replaceAt(message, path, (inner) => ({ ...(inner as object), unexpected: 1 })),
      }
    }
  }
}
