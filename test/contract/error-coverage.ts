import { globSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { ERRORS, type ErrorCode } from '@pyro/protocol'

const root = fileURLToPath(new URL('../../', import.meta.url))

/** The tests of the contract list codes without provoking them. */
const isAboutCodes = (path: string): boolean => path.startsWith('test/contract/')

/** Lines in which a scripted engine answers with a code: there it is an input, not an outcome. */
const IS_SCRIPTED = /\b(refuse|error|json|PyroError)\(/
/** What an outcome looks like: `expectCode('…')`, an expectation, or a table of expected codes. */
const IS_EXPECTED = /expect|code|toBe|toMatch|toEqual|rejects|toThrow|^\s*\[/i

export interface Provocation {
  readonly path: string
  readonly line: number
}

/** Where tests expect a code, by code. */
export const provocations = (): ReadonlyMap<ErrorCode, readonly Provocation[]> => {
  const found = new Map<ErrorCode, Provocation[]>(Object.keys(ERRORS).map((code) => [code as ErrorCode, []]))
  const paths = globSync(
    ['packages/*/src/**/*.test.ts', 'packages/driver-testkit/src/**/*.ts', 'test/**/*.ts', 'examples/**/*.test.ts'],
    {
      cwd: root,
      exclude: ['**/node_modules/**'],
    },
  )
  for (const path of paths.toSorted()) {
    if (isAboutCodes(path)) continue
    for (const [index, text] of readFileSync(root + path, 'utf8')
      .split('\n')
      .entries()) {
      if (IS_SCRIPTED.test(text) || !IS_EXPECTED.test(text)) continue
      for (const [code, places] of found) {
        if (mentions(text, code)) places.push({ path, line: index + 1 })
      }
    }
  }
  return found
}

/** The code as a word of its own: `path.exists`, not `path.existsSync`; in a pattern its dot may be escaped. */
const mentions = (text: string, code: string): boolean => {
  const dotted = code.replaceAll('.', String.raw`\\?\.`)
  return new RegExp(String.raw`(?<![\w.-])${dotted}(?![\w(-]|\.\w)`).test(text) && quoted(text, code)
}

/** `internal` is an ordinary word: it counts only in quotes. */
const quoted = (text: string, code: string): boolean =>
  code.includes('.') || new RegExp(`['"\`]${code}['"\`]`).test(text)
