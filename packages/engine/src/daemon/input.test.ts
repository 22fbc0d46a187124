import { describe, expect, test } from 'vitest'
import { parseJson, queryFields } from './input.ts'

const DEPTH = 200_000

const naming = (field: string): unknown =>
  expect.objectContaining({ code: 'input.invalid', data: { field }, message: expect.stringContaining(field) as string })

describe('a field that a schema would drop', () => {
  test.each([
    ['{"__proto__":1}', '__proto__'],
    ['{"env":{"A":"1","__proto__":"x"}}', 'env.__proto__'],
    [String.raw`{"env":{"\u005f_proto\u005F_":"x"}}`, 'env.__proto__'],
    [String.raw`{"env":{"__\u0070roto__":"x"}}`, 'env.__proto__'],
    ['{"a":[0,{"__proto__":{}}]}', 'a.1.__proto__'],
  ])('is refused in %s', (text, field) => {
    expect(() => parseJson(text)).toThrow(naming(field))
  })

  test('is refused however deep it is', () => {
    const text = `{"a":${'['.repeat(DEPTH)}{"__proto__":1}${']'.repeat(DEPTH)}}`
    expect(() => parseJson(text)).toThrow(expect.objectContaining({ code: 'input.invalid' }))
  })

  test.each([
    ['labels={"__proto__":"z","ok":"1"}', 'labels.__proto__'],
    ['__proto__={"limit":1}', '__proto__'],
  ])('is refused in the query %s', (query, field) => {
    expect(() => queryFields(new URLSearchParams(query))).toThrow(naming(field))
  })

  test('may be spoken of in a value', () => {
    const input = { command: 'echo __proto__', env: { NAME: '__proto__', QUOTED: '{"__proto__":1}' } }
    expect(parseJson(JSON.stringify(input))).toEqual(input)
    expect(queryFields(new URLSearchParams('path=__proto__'))).toEqual({ path: '__proto__' })
  })
})
