import { isMomentary, momentaryVolume, type DiskStore, type Volume, type VolumeId } from '../disk/disk-store.ts'
import { flushVolume, stillCopy, type StillGuest } from '../driver/still-copy.ts'
import type { ImageIdentity, OfflineAgent } from '../offline/offline-agent.ts'

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

/** Immutable volumes, one per state, in order. */
export interface Frozen<States extends readonly DiskState[]> {
  readonly volumes: { readonly [Index in keyof States]: Volume }
  /** Runs `action` with the inspector, to which the volumes lie at the paths. */
  inspect<T>(
    action: (tools: OfflineAgent, paths: { readonly [Index in keyof States]: string }) => Promise<T>,
  ): Promise<T>
}

/** Distinguishes the momentary volumes of this engine; those of an earlier one are gone by then. */
let lastSerial = 0

/** Freezes the states while `action` runs. */
export const withFrozen = async <const States extends readonly DiskState[], T>(
  cx: FrozenContext,
  workspaceId: string,
  states: States,
  signal: AbortSignal | undefined,
  action: (frozen: Frozen<States>) => Promise<T>,
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
  return await action({
    volumes: volumes as { [Index in keyof States]: Volume },
    inspect: async (look) => {
      const toShow: Volume[] = []
      for (const frozen of volumes) toShow.push(await shown(frozen))
      return cx.inspect(toShow, signal, (tools, paths) =>
        look(tools, paths as { readonly [Index in keyof States]: string }),
      )
    },
  })
}

/** What a killed engine left of its comparisons and exports. Called once, before any of them starts. */
export const removeMomentaryVolumes = async (disks: DiskStore): Promise<void> => {
  for (const { id } of await disks.list()) if (isMomentary(id)) await disks.remove(id)
}
