import { randomBytes } from 'node:crypto'
import { lstat, mkdir, readdir, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { PrunedThing } from '../../driver/driver.ts'
import { errnoOf, processStat } from '../../process/identity.ts'

/** What `stat` counts blocks in, whatever the filesystem (stat(2)). */
const BLOCK_BYTES = 512
/** Nothing takes this long to make: what is older was left by an engine that was killed, whoever has its pid now. */
const HALF_MADE_MS = 60 * 60_000
/** State of a process that ended and that nobody took notice of, which lasts where nobody does (proc(5)). */
const ZOMBIE = 'Z'
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
    const bytes = await diskBytesOf(place)
    await rm(place, { recursive: true, force: true })
    removed.push({ name, bytes })
  }
  return removed
}

/** Of what is gone meanwhile, nothing. */
const diskBytesOf = async (place: string): Promise<number> => {
  try {
    const stats = await lstat(place)
    const names = stats.isDirectory() ? await readdir(place) : []
    const inside = await Promise.all(names.map((name) => diskBytesOf(join(place, name))))
    return inside.reduce((sum, bytes) => sum + bytes, stats.blocks * BLOCK_BYTES)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return 0
    throw error
  }
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
    const isOrphan = pid !== undefined && (processStat(Number(pid))?.state ?? ZOMBIE) === ZOMBIE
    if (isOrphan || (await isOlder(join(folder, name), HALF_MADE_MS))) left.push(name)
  }
  return left
}

/** As `removeFolders`, what killed engines left half-made in a folder. */
export const removeHalfMade = async (folder: string): Promise<PrunedThing[]> =>
  removeFolders(folder, await halfMadeIn(folder))

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
