import { readFile, rename, writeFile } from 'node:fs/promises'
import type { z } from 'zod'

/** What the file says; null when there is none, or one that says something else. */
export const readJsonFile = async <T>(path: string, schema: z.ZodType<T>): Promise<T | null> => {
  try {
    return schema.safeParse(JSON.parse(await readFile(path, 'utf8'))).data ?? null
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT' || error instanceof SyntaxError) return null
    throw error
  }
}

/** Readers see what was there before, or all of it. For root alone. */
export const writeJsonFile = async (path: string, value: unknown): Promise<void> => {
  await writeFile(`${path}.new`, JSON.stringify(value), { mode: 0o600 })
  await rename(`${path}.new`, path)
}
