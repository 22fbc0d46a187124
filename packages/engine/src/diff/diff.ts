import type { DiffResult } from '@pyro/protocol'
import type { AgentClient } from '../agent/agent-client.ts'
import type { DiskStore, VolumeId } from '../disk/disk-store.ts'
import type { OfflineAgent } from '../offline/offline-agent.ts'

/** One side of a comparison, or what an export reads: a snapshot, the baseline or the present disk. */
export interface DiskState {
  /** As results name it: a snapshot, `baseline` or `current`. */
  readonly name: string
  readonly volume: VolumeId
  /** True for the present disk: a momentary frozen copy is made of it and removed afterwards. */
  readonly writable: boolean
  /** The agent of the sandbox that writes to this volume now; null for snapshots and when none runs. */
  readonly agent: AgentClient | null
}

export interface DiffContext {
  readonly disks: DiskStore
  readonly offline: OfflineAgent
  readonly limits: { readonly diffPatchBytes: number; readonly diffBinaryBytes: number }
}

/** The caller keeps both volumes from being removed while the call runs. */
export interface DiffRequest {
  readonly workspaceId: string
  readonly from: DiskState
  readonly to: DiskState
  /** Where .gitignore files are read. */
  readonly baseline: VolumeId
  /** Absolute folder inside. */
  readonly root: string
  /** Relative to the root; none: everything. */
  readonly paths: readonly string[]
  readonly ignored: boolean
  readonly patch: boolean
  readonly note: string | null
}

export interface DiffOptions {
  readonly signal?: AbortSignal
  /** Gets the patch piece by piece; awaited, so it applies back-pressure up to the inspector. */
  readonly onPatch?: (chunk: Uint8Array) => void | Promise<void>
}

export type DiffWorkspace = (cx: DiffContext, request: DiffRequest, options?: DiffOptions) => Promise<DiffResult>
