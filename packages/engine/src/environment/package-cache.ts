import { readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoOf } from '../process/identity.ts'

/** Empties the folder in which fetched packages wait for the next build; bytes that came back. */
export const clearPackageCache = async (folder: string): Promise<number> => {
  let names: string[]
  try {
    names = await readdir(folder)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return 0
    throw error
  }
  const sizes = await Promise.all(names.map(async (name) => (await stat(join(folder, name))).size))
  await rm(folder, { recursive: true, force: true })
  return sizes.reduce((sum, size) => sum + size, 0)
}
