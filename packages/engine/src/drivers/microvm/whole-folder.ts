import { randomBytes } from 'node:crypto'
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { errnoOf } from '../../process/identity.ts'

/** Nothing takes this long to make: what is older was left by an engine that was killed. */
const HALF_MADE_MS = 60 * 60_000

/** Makes a folder that is there whole or not at all; one that is there already is left as it is. */
export const appear = async (place: string, fill: (staging: string) => Promise<void>): Promise<void> => {
  const staging = join(dirname(place), `.${basename(place)}-${randomBytes(4).toString('hex')}`)
  await mkdir(staging, { recursive: true, mode: 0o700 })
  try {
    await fill(staging)
    await rename(staging, place)
  } catch (error) {
    await rm(staging, { recursive: true, force: true })
    const errno = errnoOf(error)
    // Another engine was first.
    if (errno !== 'ENOTEMPTY' && errno !== 'EEXIST') throw error
  }
}

/** What killed engines left half-made. */
export const removeHalfMade = async (folder: string): Promise<void> => {
  for (const name of (await readdir(folder)).filter((candidate) => candidate.startsWith('.'))) {
    const path = join(folder, name)
    const madeAt = (await stat(path).catch(() => null))?.mtimeMs
    if (madeAt !== undefined && Date.now() - madeAt > HALF_MADE_MS) await rm(path, { recursive: true, force: true })
  }
}

export const isThere = async (place: string): Promise<boolean> => {
  try {
    await stat(place)
    return true
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false
    throw error
  }
}
