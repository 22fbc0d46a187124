import { posix } from 'node:path'
import type { exportSummary } from '@pyro/protocol/guest'
import type { z } from 'zod'
import { withFrozen, type DiskState, type FrozenContext } from './frozen.ts'

export interface ExportRequest {
  readonly workspaceId: string
  readonly state: DiskState
  /** Absolute, or relative to /workspace. */
  readonly path: string
}

export interface ExportOptions {
  readonly signal?: AbortSignal
  /** Gets the tar piece by piece; awaited, so it applies back-pressure up to the inspector. */
  readonly onData: (chunk: Uint8Array) => void | Promise<void>
}

export type ExportSummary = z.infer<typeof exportSummary> & { readonly path: string }

/** Streams a file or folder as a tar, of a running, stopped or broken workspace alike. */
export const exportWorkspace = async (
  cx: FrozenContext,
  { workspaceId, state, path }: ExportRequest,
  { signal, onData }: ExportOptions,
): Promise<ExportSummary> => {
  const absolute = posix.resolve('/workspace', path)
  const summary = await withFrozen(cx, workspaceId, [state], signal, (tools, [volume], image) =>
    tools.inspectExport({ volume, path: absolute, image }, onData, signal === undefined ? {} : { signal }),
  )
  return { path: absolute, ...summary }
}
