import type { Readable } from 'node:stream'
import { batchesOf, PyroError } from '@pyro/protocol'
import {
  diffSummary,
  exportSummary,
  guestProgress,
  imageUnreadable,
  inspectEntries,
  populateResult,
  type inspectEntry,
} from '@pyro/protocol/guest'
import { z } from 'zod'
import { runOneShot, type FrameWriter } from './one-shot.ts'
import type { Roles } from './roles.ts'

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
  /** Path of the writable tree, as the roles see it. */
  readonly volume: string
  readonly identity: { readonly hostname: string; readonly machineId: string } | null
  /** A tar, plain or compressed with gzip or zstd. Read to its end or destroyed. */
  readonly seed: Readable | null
  readonly limits: ArchiveLimits
}

/** Whose filesystem an image has to hold. */
export interface ImageIdentity {
  readonly uuid: string
  readonly label: string
}

/** Paths are those of trees, as the role sees them, or of images. */
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
  /** Null where they are trees. */
  readonly image: ImageIdentity | null
}

export interface InspectExportRequest {
  readonly volume: string
  readonly path: string
  readonly image: ImageIdentity | null
}

/** An image has to be shown to a machine. */
export type Unreadable = z.infer<typeof imageUnreadable>

export type InspectEntry = z.infer<typeof inspectEntry>

export interface InspectDiffSink {
  readonly onEntries: (entries: readonly InspectEntry[]) => void
  /** Awaited: applies back-pressure. */
  readonly onPatch: (chunk: Uint8Array) => void | Promise<void>
}

/**
 * The one-shot roles of the agent binary, on trees that no command of a user works on meanwhile. Their output is checked as if a guest
 * had written it. An aborted signal ends the role and rejects with the signal's reason. After a failed `populate` or `unpack` the
 * caller drops the volume.
 */
export class OfflineAgent {
  readonly #roles: Roles

  constructor(roles: Roles) {
    this.#roles = roles
  }

  async populate(request: PopulateRequest, options: OfflineCallOptions = {}): Promise<z.infer<typeof populateResult>> {
    const { volume, identity, seed, limits } = request
    const { mapping } = this.#roles
    return runOneShot(await this.#roles.open('populate', options.signal), {
      role: 'populate',
      feed: async (input) => {
        await input.input({ volume, mapping, identity, seed: seed !== null, limits })
        if (seed !== null) await feedArchive(seed, input)
      },
      // Ends the wait for a client that sends no more while the role has refused the archive already.
      abandon: () => seed?.destroy(),
      result: populateResult,
      onEvent: progressTo(options),
      signal: options.signal,
    })
  }

  /** What differs goes to the sink. Answers that an image is unreadable only where there is one, and nothing went there then. */
  async inspectDiff(
    request: InspectDiffRequest,
    sink: InspectDiffSink,
    options: OfflineCallOptions = {},
  ): Promise<z.infer<typeof diffSummary> | Unreadable> {
    let entries = 0
    let patchBytes = 0
    const { mapping } = this.#roles
    return runOneShot(await this.#roles.open('inspect', options.signal), {
      role: 'inspect',
      feed: (input) => input.input({ op: 'diff', mapping, ...request }),
      result: answerOf(request, diffSummary),
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

  /** The tar of a file or folder goes to `onData`, awaited; unreadable as above. */
  async inspectExport(
    request: InspectExportRequest,
    onData: (chunk: Uint8Array) => void | Promise<void>,
    options: OfflineCallOptions = {},
  ): Promise<z.infer<typeof exportSummary> | Unreadable> {
    const { mapping } = this.#roles
    return runOneShot(await this.#roles.open('inspect', options.signal), {
      role: 'inspect',
      feed: (input) => input.input({ op: 'export', mapping, ...request }),
      result: answerOf(request, exportSummary),
      onData,
      signal: options.signal,
    })
  }
}

/** Only of an image may a role say that it is unreadable. */
const answerOf = <Summary extends z.ZodType>(
  { image }: { readonly image: ImageIdentity | null },
  summary: Summary,
): z.ZodUnion<[Summary]> | z.ZodUnion<[Summary, typeof imageUnreadable]> =>
  image === null ? z.union([summary]) : z.union([summary, imageUnreadable])

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

export const progressTo =
  ({ onProgress }: OfflineCallOptions) =>
  (event: unknown): void => {
    const { files, bytes } = guestProgress.parse(event)
    onProgress?.({ files, bytes })
  }
