import { open } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import { batchesOf, PyroError } from '@pyro/protocol'
import {
  diffSummary,
  exportSummary,
  guestProgress,
  inspectEntries,
  populateResult,
  unpackResult,
  type IdMapping,
  type inspectEntry,
} from '@pyro/protocol/guest'
import type { z } from 'zod'
import { ID_COUNT } from '../disk/disk-store.ts'
import { runOneShot, type FrameWriter } from './one-shot.ts'

/** Changed paths of one comparison; more is no diff anybody reads, and has to fit into memory. */
const DIFF_ENTRIES_LIMIT = 1_000_000

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
  readonly plainFolder: boolean
  readonly patchLimitBytes: number
  readonly binaryLimitBytes: number
}

export type InspectEntry = z.infer<typeof inspectEntry>

export interface InspectDiffSink {
  readonly onEntries: (entries: readonly InspectEntry[]) => void
  /** Awaited: applies back-pressure. */
  readonly onPatch: (chunk: Uint8Array) => void | Promise<void>
}

export interface OfflineAgentOptions {
  readonly agentPath: string
  /** First id outside of the user namespace. */
  readonly idBase: number
  /** `linux/amd64`. */
  readonly platform: string
}

/**
 * The one-shot roles of the agent binary on the host. Its output is checked as if a guest had written it. An aborted signal kills
 * the process and rejects with the signal's reason. After a failed `populate` or `unpack` the caller drops the volume.
 */
export class OfflineAgent {
  readonly #agentPath: string
  readonly #mapping: IdMapping
  readonly #platform: string

  constructor(options: OfflineAgentOptions) {
    this.#agentPath = options.agentPath
    this.#mapping = { base: options.idBase, count: ID_COUNT }
    this.#platform = options.platform
  }

  populate(request: PopulateRequest, options: OfflineCallOptions = {}): Promise<z.infer<typeof populateResult>> {
    const { volume, identity, seed, limits } = request
    return runOneShot({
      agentPath: this.#agentPath,
      role: 'populate',
      args: [],
      stdin: {
        feed: async (input) => {
          await input.input({ volume, mapping: this.#mapping, identity, seed: seed !== null, limits })
          if (seed !== null) await feedArchive(seed, input)
        },
        // Ends the wait for a client that sends no more while the role has refused the archive already.
        abandon: () => seed?.destroy(),
      },
      result: populateResult,
      onEvent: progressTo(options),
      signal: options.signal,
    })
  }

  async unpack(request: UnpackRequest, options: OfflineCallOptions = {}): Promise<z.infer<typeof unpackResult>> {
    const { volume, archivePath, image, limits } = request
    const input = { volume, mapping: this.#mapping, image, platform: this.#platform, limits }
    const archive = await open(archivePath, 'r')
    try {
      return await runOneShot({
        agentPath: this.#agentPath,
        role: 'unpack',
        args: [JSON.stringify(input)],
        stdin: { fd: archive.fd },
        result: unpackResult,
        onEvent: progressTo(options),
        errorCodes: { invalid: 'environment.invalid', 'not-found': 'environment.invalid' },
        signal: options.signal,
      })
    } finally {
      await archive.close()
    }
  }

  async inspectDiff(
    request: InspectDiffRequest,
    sink: InspectDiffSink,
    options: OfflineCallOptions = {},
  ): Promise<z.infer<typeof diffSummary>> {
    let entries = 0
    let patchBytes = 0
    return runOneShot({
      agentPath: this.#agentPath,
      role: 'inspect',
      args: [],
      stdin: { feed: (input) => input.input({ op: 'diff', mapping: this.#mapping, ...request }) },
      result: diffSummary,
      onEvent: (event) => {
        const batch = inspectEntries.parse(event)
        entries += batch.entries.length
        if (entries > DIFF_ENTRIES_LIMIT)
          throw new PyroError('limit.exceeded', `more than ${DIFF_ENTRIES_LIMIT} paths differ`, {
            hint: 'compare a smaller folder with --root, or single paths with --path',
          })
        sink.onEntries(batch.entries)
      },
      onData: (chunk) => {
        patchBytes += chunk.byteLength
        if (patchBytes > request.patchLimitBytes)
          throw new PyroError(
            'internal',
            `the patch is larger than the ${request.patchLimitBytes} bytes it was bound to`,
          )
        return sink.onPatch(chunk)
      },
      signal: options.signal,
    })
  }

  /** The tar goes to `onData`, awaited. */
  inspectExport(
    request: { readonly volume: string; readonly path: string },
    onData: (chunk: Uint8Array) => void | Promise<void>,
    options: OfflineCallOptions = {},
  ): Promise<z.infer<typeof exportSummary>> {
    return runOneShot({
      agentPath: this.#agentPath,
      role: 'inspect',
      args: [],
      stdin: { feed: (input) => input.input({ op: 'export', mapping: this.#mapping, ...request }) },
      result: exportSummary,
      onData,
      signal: options.signal,
    })
  }
}

/** A seed that fails (its client vanished) fails the role, which then ends without a result. */
const feedArchive = async (archive: Readable, input: FrameWriter): Promise<void> => {
  try {
    const batches = batchesOf(archive)
    for (;;) {
      const next = await input.waitForClient(() => batches.next())
      if (next.done === true) break
      await input.data(next.value)
    }
    await input.endOfData()
  } finally {
    archive.destroy()
  }
}

const progressTo =
  ({ onProgress }: OfflineCallOptions) =>
  (event: unknown): void => {
    const { files, bytes } = guestProgress.parse(event)
    onProgress?.({ files, bytes })
  }
