import { isAbsent, LOST_FIELD, lostField, PyroError, refuseLostField, type Operation } from '@pyro/protocol'
import type { Route } from './router.ts'

/** Issues that are named in one message. */
const SHOWN_ISSUES = 5
/** `LOST_FIELD` as it stands in JSON, or with some of it escaped. */
const MAY_HAVE_LOST_FIELD = /__proto__|\\u00/

/** Fields of the query of a GET or DELETE: JSON each, a bare word where it is none. */
export const queryFields = (search: URLSearchParams): Record<string, unknown> => {
  const fields: Record<string, unknown> = {}
  for (const [field, text] of search) {
    if (Object.hasOwn(fields, field)) throw invalid(`${field}: is there twice`, field)
    if (field === LOST_FIELD) throw lostField(field)
    fields[field] = jsonOrText(field, text)
  }
  return fields
}

const jsonOrText = (field: string, text: string): unknown => {
  try {
    return parsed(text, field)
  } catch (error) {
    if (error instanceof SyntaxError) return text
    throw error
  }
}

export const parseJson = (text: string): Record<string, unknown> => {
  let value: unknown
  try {
    value = parsed(text)
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
    throw new PyroError('input.invalid', `the request is not JSON: ${error.message}`, { cause: error })
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new PyroError('input.invalid', 'the request is not a JSON object')
  }
  return value as Record<string, unknown>
}

const parsed = (text: string, field = ''): unknown => {
  const value = JSON.parse(text) as unknown
  if (MAY_HAVE_LOST_FIELD.test(text)) refuseLostField(value, field)
  return value
}

/** What the path and the body say together, checked against the operation; unknown fields are refused. */
export const validInput = (route: Route, fields: Record<string, unknown>): unknown => {
  for (const field of Object.keys(route.pathFields)) {
    if (Object.hasOwn(fields, field)) throw invalid(`${field}: is in the path already`, field)
  }
  return parseInput(route.operation, { ...fields, ...route.pathFields })
}

const parseInput = (operation: Operation, value: unknown): unknown => {
  const checked = operation.input.safeParse(value)
  if (checked.success) return checked.data
  const issues = checked.error.issues.slice(0, SHOWN_ISSUES).map((issue) => {
    const field = issue.code === 'unrecognized_keys' ? issue.keys.join(', ') : issue.path.map(String).join('.')
    const reason = issue.code === 'unrecognized_keys' ? 'unknown field' : issue.message
    return { field, reason }
  })
  const text = issues.map(({ field, reason }) => (field === '' ? reason : `${field}: ${reason}`)).join('; ')
  throw new PyroError('input.invalid', `${operation.id}: ${text}; nothing was changed`, {
    hint: isAbsent(operation.cli) ? undefined : `pyro ${operation.cli.words.join(' ')} --help`,
    data: { field: issues[0]?.field ?? '', issues },
  })
}

const invalid = (message: string, field: string): PyroError =>
  new PyroError('input.invalid', `${message}; nothing was changed`, { data: { field } })
