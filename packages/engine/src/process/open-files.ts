import { readFile, writeFile } from 'node:fs/promises'
import { errnoOf } from './identity.ts'

const FILE = '/proc/sys/fs/file-max'
/** What systemd sets at boot. */
const NO_LIMIT = 2n ** 63n - 1n
/** Of one open file, at least; a sandbox pays it with its memory. */
const OPEN_FILE_BYTES = 256
const REFUSED: ReadonlySet<string> = new Set(['EACCES', 'EPERM', 'EROFS'])

/**
 * The kernel counts open files for all together, and a fresh one ends at a tenth of the memory: less than one sandbox may have.
 * Without that limit its own memory is its limit. Gives how many there may be now.
 */
export const liftOpenFiles = async (): Promise<bigint> => {
  const most = await mostOpenFiles()
  if (most >= NO_LIMIT) return most
  try {
    await writeFile(FILE, String(NO_LIMIT))
  } catch (error) {
    if (!REFUSED.has(errnoOf(error) ?? '')) throw error
    return most
  }
  return mostOpenFiles()
}

/** More than so much memory can hold. */
export const isEnoughOpenFiles = (most: bigint, memoryBytes: number): boolean =>
  most > BigInt(Math.ceil(memoryBytes / OPEN_FILE_BYTES))

const mostOpenFiles = async (): Promise<bigint> => BigInt(await readFile(FILE, 'utf8'))
