import { randomBytes } from 'node:crypto'
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { PrunedThing } from '../../driver/driver.ts'
import { errnoOf, processStat } from '../../process/identity.ts'

/** What `stat` counts blocks in, whatever the filesystem (stat(2)). */
const BLOCK_BYTES = 512
/** Nothing takes this long to make: what is older was left by an engine that was killed, whoever has its pid now. */
const HALF_MADE_MS = 60 * 60_000
/** `.<name>-<pid of the engine>-<random>` */
const HALF_MADE = /^\..*-(\d+)-[^-]+$/

/** Name of a folder that is being made by this engine. */
export const halfMadeName = (name: string): string => `.${name}-${process.pid}-${randomBytes(4).toString('hex')}`

/** Makes a folder that is there whole or not at all; one that is there already is left as it is. */
export const appear = async (place: string, fill: (staging: string) => Promise<void>): Promise<void> => {
  const staging = join(dirname(place), halfMadeName(basename(place)))
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

/** Removes folders; programs that use a file of one keep it. The bytes that each took of the disk. */
export const removeFolders = async (folder: string, names: readonly string[]): Promise<PrunedThing[]> => {
  const removed: PrunedThing[] = []
  for (const name of names) {
    const place = join(folder, name)
    const files = await Promise.all((await readdir(place)).map((file) => stat(join(place, file))))
    await rm(place, { recursive: true, force: true })
    removed.push({ name, bytes: files.reduce((sum, { blocks }) => sum + blocks * BLOCK_BYTES, 0) })
  }
  return removed
}

/** None when the folder is not there. */
export const namesIn = async (folder: string): Promise<string[]> => {
  try {
    return await readdir(folder)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return []
    throw error
  }
}

/** Names of what killed engines left half-made in a folder. */
const halfMadeIn = async (folder: string): Promise<string[]> => {
  const left: string[] = []
  for (const name of (await namesIn(folder)).filter((candidate) => candidate.startsWith('.'))) {
    const pid = HALF_MADE.exec(name)?.[1]
    const isOrphan = pid !== undefined && processStat(Number(pid)) === null
    if (isOrphan || (await isOlder(join(folder, name), HALF_MADE_MS))) left.push(name)
  }
  return left
}

export const removeHalfMade = async (folder: string): Promise<void> => {
  for (const name of await halfMadeIn(folder)) await rm(join(folder, name), { recursive: true, force: true })
}

/** What is gone meanwhile is not. */
const isOlder = async (path: string, ageMs: number): Promise<boolean> => {
  try {
    return Date.now() - (await stat(path)).mtimeMs > ageMs
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false
    throw error
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
