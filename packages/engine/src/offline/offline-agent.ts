import type { Readable } from 'node:stream'
import type { z } from 'zod'
import type { inspectEntry, diffSummary, exportSummary, populateResult, unpackResult } from '@pyro/protocol/guest'

export interface ArchiveLimits {
  readonly entries: number
  readonly bytes: number
  readonly pathBytes: number
}

export interface OfflineProgress {
  readonly files: number
  readonly bytes: number
}

export interface OfflineCallOptions {
  readonly signal?: AbortSignal
  readonly onProgress?: (progress: OfflineProgress) => void
}

export interface PopulateRequest {
  /** Host path of the writable tree. */
  readonly volume: string
  readonly identity: { readonly hostname: string; readonly machineId: string } | null
  /** A tar, plain or compressed with gzip or zstd. Read to its end or destroyed. */
  readonly seed: Readable | null
  readonly limits: ArchiveLimits
}

export interface UnpackRequest {
  /** Host path of the empty writable tree. */
  readonly volume: string
  /** Host path of our own copy of the archive, uncompressed. */
  readonly archivePath: string
  readonly image: string | null
  readonly limits: ArchiveLimits
}

export interface InspectDiffRequest {
  readonly from: string
  readonly to: string
  readonly ignoreFrom: string
  readonly root: string
  readonly paths: readonly string[]
  readonly ignored: boolean
  readonly patch: boolean
  readonly patchLimitBytes: number
  readonly binaryLimitBytes: number
}

export type InspectEntry = z.infer<typeof inspectEntry>

export interface InspectDiffSink {
  readonly onEntries: (entries: readonly InspectEntry[]) => void
  /** Awaited: applies back-pressure. */
  readonly onPatch: (chunk: Uint8Array) => void | Promise<void>
}

/**
 * The one-shot roles of the agent binary on the host. Its output is checked as if a guest had written it. An aborted signal kills
 * the process and rejects with the signal's reason.
 */
export interface OfflineAgent {
  populate(request: PopulateRequest, options?: OfflineCallOptions): Promise<z.infer<typeof populateResult>>
  unpack(request: UnpackRequest, options?: OfflineCallOptions): Promise<z.infer<typeof unpackResult>>
  inspectDiff(
    request: InspectDiffRequest,
    sink: InspectDiffSink,
    options?: OfflineCallOptions,
  ): Promise<z.infer<typeof diffSummary>>
  /** The tar goes to `onData`, awaited. */
  inspectExport(
    request: { readonly volume: string; readonly path: string },
    onData: (chunk: Uint8Array) => void | Promise<void>,
    options?: OfflineCallOptions,
  ): Promise<z.infer<typeof exportSummary>>
}
