import assert from 'node:assert/strict'
import { join } from 'node:path'
import {
  DISK_FILE,
  isMomentary,
  momentaryVolume,
  type DiskStore,
  type Volume,
  type VolumeId,
} from '../disk/disk-store.ts'
import { flushVolume, stillCopy, type StillGuest } from '../driver/still-copy.ts'
import type { ImageIdentity, OfflineAgent, Unreadable } from '../offline/offline-agent.ts'

/** One side of a comparison, or what an export reads: a snapshot, the baseline or the present disk. */
export interface DiskState {
  /** As results name it: a snapshot, `baseline` or `current`. */
  readonly name: string
  readonly volume: VolumeId
  /** True for the present disk: a momentary frozen copy is made of it and removed afterwards. */
  readonly writable: boolean
  /** The agent of the sandbox that writes to this volume now, as far as it is needed; null for snapshots and when none runs. */
  readonly agent: StillGuest | null
}

/** Shows immutable volumes to the inspector while `action` runs; it gets their paths there, in order. */
export type Inspect = <T>(
  volumes: readonly Volume[],
  signal: AbortSignal | undefined,
  action: (tools: OfflineAgent, paths: readonly string[]) => Promise<T>,
) => Promise<T>

/** Reads images without a machine. */
export interface ImageReader {
  readonly tools: OfflineAgent
  readonly identity: ImageIdentity
  /** Told why one has to be shown to a machine. */
  readonly onUnreadable: (why: string) => void
}

export interface FrozenContext {
  readonly disks: DiskStore
  /** Null where volumes are trees. */
  readonly images: ImageReader | null
  readonly inspect: Inspect
}

type PathsOf<States extends readonly DiskState[]> = { readonly [Index in keyof States]: string }

/**
 * Looks at the frozen states, which lie at the paths, in order. The image says what the files there have to hold; null: they are trees.
 * An answer that one of them is unreadable comes before anything else.
 */
export type Look<States extends readonly DiskState[], T extends object> = (
  tools: OfflineAgent,
  paths: PathsOf<States>,
  image: ImageIdentity | null,
) => Promise<T | Unreadable>

/** Distinguishes the momentary volumes of this engine; those of an earlier one are gone by then. */
let lastSerial = 0

/** Freezes the states while `look` runs: on images themselves where that is possible, else with the inspector. */
export const withFrozen = async <const States extends readonly DiskState[], T extends object>(
  cx: FrozenContext,
  workspaceId: string,
  states: States,
  signal: AbortSignal | undefined,
  look: Look<States, T>,
): Promise<T> => {
  const { disks } = cx
  await using momentary = new AsyncDisposableStack()
  const newMomentary = (): VolumeId => {
    const id = momentaryVolume(workspaceId, ++lastSerial)
    momentary.defer(() => disks.remove(id))
    return id
  }
  const frozenOf = async ({ volume, writable, agent }: DiskState): Promise<Volume> => {
    if (!writable) return { id: volume, path: disks.path(volume), writable: false }
    await flushVolume(disks, volume, { agent, signal })
    return stillCopy(disks, { from: volume, to: newMomentary(), group: workspaceId }, { agent, signal })
  }
  const volumes: Volume[] = []
  for (const state of states) {
    signal?.throwIfAborted()
    volumes.push(await frozenOf(state))
  }
  /** What a machine that was cut off left in its journal is on the disk as well, and is replayed on a copy. */
  const shown = async (frozen: Volume): Promise<Volume> =>
    cx.images === null ? frozen : disks.clone(frozen.id, newMomentary(), { limitBytes: null, group: workspaceId })
  if (cx.images !== null) {
    const { tools, identity, onUnreadable } = cx.images
    const files = volumes.map(({ path }) => join(path, DISK_FILE))
    const seen = await look(tools, files as PathsOf<States>, identity)
    if (!('unreadable' in seen)) return seen
    onUnreadable(seen.unreadable)
  }
  const toShow: Volume[] = []
  for (const frozen of volumes) toShow.push(await shown(frozen))
  const seen = await cx.inspect(toShow, signal, (tools, paths) => look(tools, paths as PathsOf<States>, null))
  assert(!('unreadable' in seen), 'a tree is always readable')
  return seen
}

/** What a killed engine left of its comparisons and exports. Called once, before any of them starts. */
export const removeMomentaryVolumes = async (disks: DiskStore): Promise<void> => {
  for (const { id } of await disks.list()) if (isMomentary(id)) await disks.remove(id)
}
