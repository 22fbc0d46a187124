import { PyroError } from './errors.ts'

/** A schema drops a field of this name from a record without a word. */
export const LOST_FIELD = '__proto__'

/**
 * Of what was parsed as JSON. Without recursion: how deep it goes is up to the caller.
 *
 * @throws PyroError `input.invalid` for a field that a schema would drop; `path` is where `whole` stands
 */
export const refuseLostField = (whole: unknown, path = ''): void => {
  const left: [value: unknown, path: string][] = [[whole, path]]
  for (let next = left.pop(); next !== undefined; next = left.pop()) {
    const [value, at] = next
    if (typeof value !== 'object' || value === null) continue
    for (const [name, inner] of Object.entries(value)) {
      const innerPath = at === '' ? name : `${at}.${name}`
      if (name === LOST_FIELD) throw lostField(innerPath)
      left.push([inner, innerPath])
    }
  }
}

export const lostField = (field: string): PyroError =>
  new PyroError('input.invalid', `${field}: nothing can have the name ${LOST_FIELD}; nothing was changed`, {
    hint: 'use another name',
    data: { field },
  })
