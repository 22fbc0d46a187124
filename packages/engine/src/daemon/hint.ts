import { PyroError } from '@pyro/protocol'

/** Placeholders of hints, and the field of an input that says what they stand for. */
const FIELDS = { WS: 'workspace', ENV: 'environment', CMD: 'commandId', PATH: 'path' } as const
type Placeholder = keyof typeof FIELDS

/** What a shell takes as one word, unquoted. */
const PLAIN_WORD = /^[A-Za-z0-9][\w.:/-]*$/

/** Names in the hint what the call named, so that the next command can be pasted. */
export const withNames = (error: PyroError, input: unknown): PyroError => {
  if (error.hint === null || typeof input !== 'object' || input === null) return error
  const fields = input as Readonly<Record<string, unknown>>
  const hint = error.hint.replaceAll(/\b(?:WS|ENV|CMD|PATH)\b/g, (placeholder) => {
    const value = fields[FIELDS[placeholder as Placeholder]]
    return typeof value === 'string' && PLAIN_WORD.test(value) ? value : placeholder
  })
  return new PyroError(error.code, error.message, { hint, data: error.data ?? undefined, cause: error.cause })
}
