import { isAbsent, OPERATIONS, PyroError, type Operation, type OperationId } from '@pyro/protocol'

export interface Route {
  readonly id: OperationId
  readonly operation: Operation
  /** Fields of the input that the path carries. */
  readonly pathFields: Readonly<Record<string, string>>
}

interface Pattern {
  readonly id: OperationId
  readonly operation: Operation
  readonly method: string
  /** A text to be met, or the name of the field that the segment carries. */
  readonly segments: readonly ({ readonly text: string } | { readonly field: string })[]
}

const PATTERNS: readonly Pattern[] = Object.entries(OPERATIONS as Record<string, Operation>).flatMap(
  ([id, operation]) => {
    if (isAbsent(operation.http)) return []
    const segments = operation.http.path.split('/').map((text) => {
      const field = /^\{(\w+)\}$/.exec(text)?.[1]
      return field === undefined ? { text } : { field }
    })
    return [{ id: id as OperationId, operation, method: operation.http.method, segments }]
  },
)

/** The operation of a request; literal segments win over fields. `input.invalid` when there is none. */
export const findRoute = (method: string, path: string): Route => {
  const parts = path.split('/').map(decoded)
  const matches = PATTERNS.filter((pattern) => pattern.method === method && fits(pattern, parts))
  const [best] = matches.sort((a, b) => fieldCount(a) - fieldCount(b))
  if (best === undefined) {
    throw new PyroError('input.invalid', `there is no operation at ${method} ${path}`, {
      hint: 'see spec/openapi.json',
      data: { field: 'path' },
    })
  }
  const pathFields: Record<string, string> = {}
  for (const [index, segment] of best.segments.entries()) {
    if ('field' in segment) pathFields[segment.field] = parts[index] ?? ''
  }
  return { id: best.id, operation: best.operation, pathFields }
}

/** The operation that the head of a call names, whose whole input follows. */
export const routeTo = (id: unknown): Route => {
  const operations = OPERATIONS as Record<string, Operation>
  const operation = typeof id === 'string' && Object.hasOwn(operations, id) ? operations[id] : undefined
  if (operation === undefined || isAbsent(operation.http)) {
    throw new PyroError('input.invalid', `there is no operation ${JSON.stringify(id)}`, {
      hint: 'see spec/openapi.json',
      data: { field: 'operation' },
    })
  }
  return { id: id as OperationId, operation, pathFields: {} }
}

const decoded = (text: string): string => {
  try {
    return decodeURIComponent(text)
  } catch (error) {
    if (!(error instanceof URIError)) throw error
    throw new PyroError('input.invalid', `the path is not properly encoded: ${text}`, { data: { field: 'path' } })
  }
}

const fits = (pattern: Pattern, parts: readonly string[]): boolean =>
  pattern.segments.length === parts.length &&
  pattern.segments.every((segment, index) => ('text' in segment ? segment.text === parts[index] : parts[index] !== ''))

const fieldCount = (pattern: Pattern): number => pattern.segments.filter((segment) => 'field' in segment).length
