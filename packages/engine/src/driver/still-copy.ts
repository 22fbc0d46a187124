import { PyroError } from '@pyro/protocol'
import type { AgentClient } from '../agent/agent-client.ts'
import type { DiskStore, Volume, VolumeId } from '../disk/disk-store.ts'
import type { Driver } from './driver.ts'

/** What the guest may take to write out what it holds back, to flush and to freeze: the disk of the host may be busy. */
const WRITE_OUT_TIMEOUT_MS = 60_000
/** The guest lets its writers go on after 2 s, whoever asks: on a host under load that may be too early. */
const TRIES = 8

/** What the agent of a running sandbox does for a copy of its disk. */
export interface StillGuest extends Pick<AgentClient, 'flush'> {
  /** Null where volumes are trees: their kernel is the store's own. */
  readonly disk: Pick<AgentClient, 'freeze' | 'thaw'> | null
}

export const stillGuest = (driver: Pick<Driver, 'volumes'>, agent: AgentClient): StillGuest => ({
  flush: (options) => agent.flush(options),
  disk: driver.volumes === 'images' ? agent : null,
})

export interface CopyRequest {
  readonly from: VolumeId
  readonly to: VolumeId
  readonly group: string
}

export interface CopyContext {
  /** Null: no sandbox writes to the volume. */
  readonly agent: StillGuest | null
  readonly signal: AbortSignal | undefined
}

/** Writes out what guest and host hold back of a volume, so that a copy after it is quick. */
export const flushVolume = async (
  disks: DiskStore,
  volume: VolumeId,
  { agent, signal }: CopyContext,
): Promise<void> => {
  await agent?.flush({ timeoutMs: WRITE_OUT_TIMEOUT_MS, ...(signal === undefined ? {} : { signal }) })
  await disks.flush(volume)
}

/**
 * An immutable copy, under a committed name, of a writable volume that was flushed: of one instant, and whole in itself. One that a
 * crash left half made is replaced.
 */
export const stillCopy = async (
  disks: DiskStore,
  { from, to, group }: CopyRequest,
  { agent, signal }: CopyContext,
): Promise<Volume> => {
  const disk = agent?.disk ?? null
  for (let tries = TRIES; tries > 0; tries -= 1) {
    await disks.remove(to)
    if (disk === null) return disks.freeze(from, to, { group })
    signal?.throwIfAborted()
    const copy = await alone(from, () => copyFrozen(disk, () => disks.freeze(from, to, { group })))
    if (copy !== null) return copy
    await flushVolume(disks, from, { agent, signal })
  }
  await disks.remove(to)
  throw new PyroError('sandbox.unreachable', 'the disk of the sandbox did not stand still for a copy', {
    hint: 'try again; the host may be under load, or a program inside thaws the disk',
  })
}

/** A disk stands still for one copy at a time: whoever asked first would let writers go on under the other. */
const copying = new Map<VolumeId, Promise<unknown>>()

const alone = async <T>(volume: VolumeId, work: () => Promise<T>): Promise<T> => {
  const before = copying.get(volume) ?? Promise.resolve()
  const mine = before.then(work, work)
  copying.set(volume, mine)
  try {
    return await mine
  } finally {
    if (copying.get(volume) === mine) copying.delete(volume)
  }
}

/** Null when writers went on before the copy was made. Whatever happens, they go on afterwards. */
const copyFrozen = async (
  disk: NonNullable<StillGuest['disk']>,
  copy: () => Promise<Volume>,
): Promise<Volume | null> => {
  let made: Volume
  try {
    // Not given up once it is asked for: a freeze that comes about all the same would have nobody who ends it.
    await disk.freeze({ timeoutMs: WRITE_OUT_TIMEOUT_MS })
    made = await copy()
  } catch (error) {
    await Promise.allSettled([disk.thaw()])
    throw error
  }
  return (await disk.thaw()) ? made : null
}
