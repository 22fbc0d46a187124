import { isUtf8 } from 'node:buffer'
import { BASELINE, type DiffEntry, type DiffResult } from '@pyro/protocol'
import type { VolumeId } from '../disk/disk-store.ts'
import type { InspectEntry } from '../offline/offline-agent.ts'
import { withFrozen, type DiskState, type FrozenContext } from './frozen.ts'

/** Files that a host's git would run or obey: named apart, worth a look before they get there. */
const GIT_SENSITIVE = /(^|\/)\.git\/(hooks(\/|$)|config$)/
/** So many of them are named. */
const GIT_SENSITIVE_LIMIT = 1000

export interface DiffContext extends FrozenContext {
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
  /** The baseline was seeded from a folder, which need not be a git work tree. */
  readonly plainFolder: boolean
  readonly note: string | null
}

export interface DiffOptions {
  readonly signal?: AbortSignal
  /** Gets the patch piece by piece; awaited, so it applies back-pressure up to the inspector. */
  readonly onPatch?: (chunk: Uint8Array) => void | Promise<void>
}

/** Compares two states. The patch goes to `onPatch` as it comes and is in the result as a whole. */
export const diffWorkspace = async (
  cx: DiffContext,
  request: DiffRequest,
  options: DiffOptions = {},
): Promise<DiffResult> => {
  const { workspaceId, from, to } = request
  const entries: DiffEntry[] = []
  const patch: Buffer[] = []
  const baseline: DiskState = { name: BASELINE, volume: request.baseline, writable: false, agent: null }
  const states = [from, to, baseline] as const
  const summary = await withFrozen(
    cx,
    workspaceId,
    states,
    options.signal,
    (tools, [fromPath, toPath, ignoreFrom], image) =>
      tools.inspectDiff(
        {
          from: fromPath,
          to: toPath,
          ignoreFrom,
          root: request.root,
          paths: request.paths,
          ignored: request.ignored,
          patch: request.patch,
          plainFolder: request.plainFolder,
          patchLimitBytes: cx.limits.diffPatchBytes,
          binaryLimitBytes: cx.limits.diffBinaryBytes,
          image,
        },
        {
          onEntries: (batch) => entries.push(...batch.map(diffEntryOf)),
          onPatch: (chunk) => {
            patch.push(Buffer.from(chunk))
            return options.onPatch?.(chunk)
          },
        },
        options.signal === undefined ? {} : { signal: options.signal },
      ),
  )
  return {
    workspaceId,
    from: from.name,
    to: to.name,
    root: request.root,
    clean: summary.changed === 0,
    totals: { ...totalsOf(entries), ignored: summary.ignored },
    entries,
    ...(request.patch ? patchFields(Buffer.concat(patch)) : { patch: null }),
    patchBytes: summary.patchBytes,
    patchTruncated: summary.patchTruncated,
    gitSensitive: entries
      .map(({ path }) => path)
      .filter((path) => GIT_SENSITIVE.test(path))
      .slice(0, GIT_SENSITIVE_LIMIT),
    note: request.note,
  }
}

const diffEntryOf = ({ pathBase64, linkTargetBase64, ...entry }: InspectEntry): DiffEntry => {
  const path = Buffer.from(pathBase64, 'base64')
  const target = linkTargetBase64 === null ? null : Buffer.from(linkTargetBase64, 'base64')
  return {
    path: path.toString('utf8'),
    ...(isUtf8(path) ? {} : { pathBase64 }),
    ...entry,
    linkTarget: target?.toString('utf8') ?? null,
    ...(linkTargetBase64 === null || target === null || isUtf8(target) ? {} : { linkTargetBase64 }),
  }
}

const totalsOf = (entries: readonly DiffEntry[]): Omit<DiffResult['totals'], 'ignored'> => {
  const totals = { added: 0, modified: 0, deleted: 0, typeChanged: 0, notInPatch: 0, additions: 0, deletions: 0 }
  for (const entry of entries) {
    totals[entry.status]++
    if (!entry.inPatch) totals.notInPatch++
    totals.additions += entry.additions ?? 0
    totals.deletions += entry.deletions ?? 0
  }
  return totals
}

const patchFields = (patch: Buffer): { patch: string; patchBase64?: string } => ({
  patch: patch.toString('utf8'),
  ...(isUtf8(patch) ? {} : { patchBase64: patch.toString('base64') }),
})
