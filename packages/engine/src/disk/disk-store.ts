import assert from 'node:assert/strict'
import type { PyroError } from '@pyro/protocol'

/**
 * The seam to disks. A *volume* is a folder: the copy-on-write root of an environment, a workspace or a snapshot, or the one file
 * `DISK_FILE` that holds it.
 *
 * Life of a volume: `create` (empty, for an import) or `clone` makes it writable; `seal` or `freeze` gives an immutable one;
 * `remove` ends it. Names are chosen by the caller and committed to the store before the volume is made, so that a crashed
 * engine finds it again: every method is safe to repeat after a crash, and `remove` of what is not there succeeds.
 *
 * One suite (`driver-testkit`) runs against every implementation.
 */

/** Names: `env-<digest 16 hex>`, `env-<digest>.<MiB>m` (its disk image), `<workspace>.g<generation>`, `<workspace>.s<serial>`, `<workspace>.t<serial>` (momentary). */
export type VolumeId = string & { readonly __brand: 'VolumeId' }

export interface Volume {
  readonly id: VolumeId
  /** Absolute host path, below the runtime folder's `volumes`. */
  readonly path: string
  readonly writable: boolean
}

/** Ids that a tree may hold, and of the user namespaces that it is used in. */
export const ID_COUNT = 65_536

/** The whole disk of a microVM. */
export const DISK_FILE = 'disk.raw'

export interface VolumeUsage {
  /** Bytes that only this volume holds, where the store knows. */
  readonly ownedBytes: number | null
}

export interface DiskSpace {
  readonly freeBytes: number
  readonly totalBytes: number
}

export interface CloneOptions {
  /** Hard limit of the new volume in bytes, where the store can enforce one. */
  readonly limitBytes: number | null
  /** Accounting group: the workspace id. */
  readonly group: string | null
}

export interface DiskStore extends AsyncDisposable {
  readonly kind: 'btrfs' | 'copy'
  /** True when `limitBytes` is a wall for the guest. */
  readonly enforcesLimit: boolean
  /** For people: what the store stands on. */
  readonly detail: string
  /** Why `auto` did not take btrfs; null when it did or was not asked. */
  readonly fallback: PyroError | null
  /** An empty writable tree. Fails with `path.exists` when the name is in use by a complete volume. */
  create(id: VolumeId): Promise<Volume>
  /** Makes a writable volume immutable, in place. */
  seal(id: VolumeId): Promise<Volume>
  /**
   * A writable copy-on-write copy of an immutable volume. `disk.full` when the store has no space; then nothing exists.
   * `to` exists already: it is returned as it is (the caller that wants a fresh one removes it first). The same goes for `freeze`.
   */
  clone(from: VolumeId, to: VolumeId, options: CloneOptions): Promise<Volume>
  /** An immutable copy of a writable volume, of one instant. */
  freeze(from: VolumeId, to: VolumeId, options: { readonly group: string | null }): Promise<Volume>
  /** Pushes what the host's kernel holds back of this volume to the disk, so that a freeze after it is quick. */
  flush(id: VolumeId): Promise<void>
  /** Idempotent. */
  remove(id: VolumeId): Promise<void>
  /** Where a volume of this name is or would be. */
  path(id: VolumeId): string
  /** Null when there is none, or only an unfinished one. */
  find(id: VolumeId): Promise<Volume | null>
  list(): Promise<readonly Volume[]>
  usage(id: VolumeId): Promise<VolumeUsage>
  /** Bytes that the volumes of this group wrote since their environment, where the store knows. */
  groupUsage(group: string): Promise<number | null>
  /** True when the volume stands within 1 MiB of its limit, or the store itself is full. */
  isFull(id: VolumeId): Promise<boolean>
  space(): Promise<DiskSpace>
  /** Makes the store able to take about this much more: `disk.full` when it cannot, naming what is missing. */
  makeRoom(bytes: number): Promise<void>
  /** Waits (bounded) until the space of removed volumes is back; bytes that came back. */
  reclaimSpace(options: { readonly timeoutMs: number }): Promise<number>
}

export const VOLUME_ID_PATTERN = /^[a-z0-9][a-z0-9.-]{0,127}$/

/** Checks a name before it becomes a path. */
export const volumeId = (text: string): VolumeId => {
  assert.match(text, VOLUME_ID_PATTERN, 'name of a volume')
  return text as VolumeId
}

/** `ws-x.g1` → `ws-x`. */
export const groupOf = (id: VolumeId): string => id.split('.')[0] ?? id

/** The disk image of an environment, of that size. */
export const imageVolume = (digestHex: string, diskMib: number): VolumeId =>
  volumeId(`${environmentVolume(digestHex)}.${diskMib}m`)
export const environmentVolume = (digestHex: string): VolumeId => volumeId(`env-${digestHex.slice(0, 16)}`)
/** A momentary copy; whatever bears such a name when the engine starts is removed. */
export const momentaryVolume = (workspaceId: string, serial: number): VolumeId => volumeId(`${workspaceId}.t${serial}`)
export const isMomentary = (id: VolumeId): boolean => /\.t\d+$/.test(id)
