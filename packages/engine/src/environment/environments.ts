import type { Readable } from 'node:stream'
import type { EnvironmentRecord, Progress } from '@pyro/protocol'
import type { z } from 'zod'
import type { environmentSummary, pruneResult } from '@pyro/protocol'
import type { VolumeId } from '../disk/disk-store.ts'

export interface EnvironmentCallOptions {
  readonly signal?: AbortSignal
  readonly onProgress?: (progress: Progress) => void
}

export interface ImportRequest {
  readonly environment: string
  /** For display; never opened. */
  readonly source: string
  /** Which image of a layout that holds several. */
  readonly image: string | null
  /** Supersede an environment of this name. */
  readonly replace: boolean
}

/** An installed environment that cannot be removed while this is held. */
export interface EnvironmentLease extends Disposable {
  readonly name: string
  /** `sha256:<64 hex>`. */
  readonly digest: string
  /** Immutable volume to clone. */
  readonly volume: VolumeId
  readonly env: Readonly<Record<string, string>>
  readonly user: string
  readonly workingDir: string
  /** False when it was installed already. */
  readonly pulled: boolean
}

/** What this host can start workspaces from: the catalog, and what was pulled or imported. */
export interface Environments {
  list(): Promise<z.infer<typeof environmentSummary>[]>
  /** Fails with `environment.not-found`, suggesting the nearest name. */
  inspect(name: string): Promise<EnvironmentRecord>
  /** Concurrent pulls of one environment share one build; it is aborted when all its callers have gone. */
  pull(name: string, options?: EnvironmentCallOptions): Promise<EnvironmentRecord & { readonly pulled: boolean }>
  import(request: ImportRequest, archive: Readable, options?: EnvironmentCallOptions): Promise<EnvironmentRecord>
  remove(name: string): Promise<{ removed: string; digest: string; freedBytes: number | null }>
  prune(options: { readonly all: boolean }): Promise<z.infer<typeof pruneResult>>
  /** For a create: the environment, pulled when missing and `pull` says so. Dispose the lease when the workspace is recorded. */
  acquire(name: string, options: EnvironmentCallOptions & { readonly pull: boolean }): Promise<EnvironmentLease>
  /** Volumes that belong to installed environments or to a pull or import under way, for the leak audit. */
  volumes(): Promise<readonly VolumeId[]>
}
