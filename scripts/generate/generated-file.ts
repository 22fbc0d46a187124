import { readFile } from 'node:fs/promises'
import { format, resolveConfig } from 'prettier'

/** One generated file: its path from the root of the repository, and its whole text. */
export interface GeneratedFile {
  readonly path: string
  readonly text: string
}

type Parser = 'json' | 'markdown' | 'typescript'

/** Text as `npm run format` would leave it, so that a generated file never differs by its layout. */
export const formatted = async (path: string, text: string, parser: Parser): Promise<GeneratedFile> => {
  const config = (await resolveConfig(new URL(`../../${path}`, import.meta.url).pathname)) ?? {}
  return { path, text: await format(text, { ...config, parser }) }
}

export const jsonFile = (path: string, value: unknown): Promise<GeneratedFile> =>
  formatted(path, JSON.stringify(value), 'json')

/** Version of the packages, which move together. */
export const packageVersion = async (): Promise<string> => {
  const text = await readFile(new URL('../../packages/protocol/package.json', import.meta.url), 'utf8')
  return (JSON.parse(text) as { version: string }).version
}
