import { z } from 'zod'

export type JsonSchema = { readonly [key: string]: unknown }

/** The driver of the tests is in no document. */
const isTestsOnly = (value: unknown): boolean =>
  typeof value === 'object' && value !== null && 'const' in value && value.const === 'fake'

const clean = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.filter((inner) => !isTestsOnly(inner)).map(clean)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .filter(
        ([key, inner]) =>
          key !== '$schema' &&
          !(key === 'maximum' && inner === Number.MAX_SAFE_INTEGER) &&
          !(key === 'minimum' && inner === Number.MIN_SAFE_INTEGER),
      )
      .map(([key, inner]) => [key, clean(inner)]),
  )
}

/** The JSON Schema (2020-12, as OpenAPI 3.1 takes it) of what a caller sends. */
export const inputSchema = (schema: z.ZodType): JsonSchema =>
  clean(z.toJSONSchema(schema, { io: 'input' })) as JsonSchema

/** The JSON Schema of what the engine answers. Fields may be added in a later version, so objects stay open. */
export const outputSchema = (schema: z.ZodType): JsonSchema =>
  clean(
    z.toJSONSchema(schema, {
      io: 'output',
      override: ({ jsonSchema }) => {
        if (jsonSchema.additionalProperties === false) delete jsonSchema.additionalProperties
      },
    }),
  ) as JsonSchema

export interface Property {
  readonly name: string
  readonly required: boolean
  readonly schema: JsonSchema
}

export const propertiesOf = (schema: JsonSchema): readonly Property[] => {
  const required = new Set((schema['required'] as readonly string[] | undefined) ?? [])
  const properties = (schema['properties'] as Record<string, JsonSchema> | undefined) ?? {}
  return Object.entries(properties).map(([name, inner]) => ({ name, required: required.has(name), schema: inner }))
}

/** The alternatives of a schema: of `anyOf`, `oneOf` and a list of types; null when it has one form only. */
export const alternatives = (schema: JsonSchema): readonly JsonSchema[] | null => {
  const union = (schema['anyOf'] ?? schema['oneOf']) as readonly JsonSchema[] | undefined
  if (union !== undefined) return union
  return Array.isArray(schema['type']) ? schema['type'].map((type: unknown) => ({ ...schema, type })) : null
}

/** One line for a person: `string`, `int ≥ 1`, `"a" | "b"`, `{ name, env }[]`. */
export const describeType = (schema: JsonSchema): string => {
  if ('const' in schema) return JSON.stringify(schema['const'])
  if (Array.isArray(schema['enum'])) return schema['enum'].map((value) => JSON.stringify(value)).join(' \\| ')
  const union = alternatives(schema)
  if (union !== null) return [...new Set(union.map(describeType))].join(' \\| ')
  switch (schema['type']) {
    case 'array': {
      const inner = describeType((schema['items'] as JsonSchema | undefined) ?? {})
      return inner.includes(' ') && !inner.startsWith('{') ? `(${inner})[]` : `${inner}[]`
    }
    case 'object': {
      const names = propertiesOf(schema).map(({ name, required }) => (required ? name : `${name}?`))
      if (names.length > 0) return `{ ${names.join(', ')} }`
      const value = schema['additionalProperties']
      return typeof value === 'object' && value !== null ? `{ [name]: ${describeType(value as JsonSchema)} }` : 'object'
    }
    case 'integer':
      return `int${boundsOf(schema)}`
    case 'number':
      return `number${boundsOf(schema)}`
    case 'string':
      return schema['format'] === 'date-time' ? 'time' : 'string'
    case undefined:
      return 'any'
    default:
      return String(schema['type'])
  }
}

const boundsOf = (schema: JsonSchema): string => {
  const bound = (keyword: string, sign: string): string => {
    const value = schema[keyword]
    return typeof value === 'number' ? ` ${sign} ${value}` : ''
  }
  return bound('minimum', '≥') + bound('exclusiveMinimum', '>') + bound('maximum', '≤')
}
