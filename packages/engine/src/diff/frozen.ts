import type { AgentClient } from '../agent/agent-client.ts'
import { isMomentary, momentaryVolume, type DiskStore, type VolumeId } from '../disk/disk-store.ts'
import type { OfflineAgent } from '../offline/offline-agent.ts'

/** One side of a comparison, or what an export reads: a snapshot, the baseline or the present disk. */
export interface DiskState {
  /** As results name it: a snapshot, `baseline` or `current`. */
  readonly name: string
  readonly volume: VolumeId
  /** True for the present disk: a momentary frozen copy is made of it and removed afterwards. */
  readonly writable: boolean
  /** The agent of the sandbox that writes to this volume now, as far as it is needed; null for snapshots and when none runs. */
  readonly agent: Pick<AgentClient, 'flush'> | null
}

export interface FrozenContext {
  readonly disks: DiskStore
  readonly offline: OfflineAgent
}

/** Distinguishes the momentary volumes of this engine; those of an earlier one are gone by then. */
let lastSerial = 0

/** Runs `action` with the host paths of immutable volumes, one per state, in order. */
export const withFrozen = async <const States extends readonly DiskState[], T>(
  { disks }: FrozenContext,
  workspaceId: string,
  states: States,
  signal: AbortSignal | undefined,
  action: (paths: { readonly [Index in keyof States]: string }) => Promise<T>,
): Promise<T> => {
  await using momentary = new AsyncDisposableStack()
  const paths: string[] = []
  for (const state of states) {
    signal?.throwIfAborted()
    if (!state.writable) {
      paths.push(disks.path(state.volume))
      continue
    }
    // What is unwritten is written out before the freeze: the freeze itself then stops writers for a moment only.
    await state.agent?.flush(signal === undefined ? {} : { signal })
    await disks.flush(state.volume)
    const id = momentaryVolume(workspaceId, ++lastSerial)
    momentary.defer(() => disks.remove(id))
    paths.push((await disks.freeze(state.volume, id, { group: workspaceId })).path)
  }
  return await action(paths as { [Index in keyof States]: string })
}

/** What a killed engine left of its comparisons and exports. Called once, before any of them starts. */
export const removeMomentaryVolumes = async (disks: DiskStore): Promise<void> => {
  for (const { id } of await disks.list()) if (isMomentary(id)) await disks.remove(id)
}
