import { join, posix } from 'node:path'
import type { exportSummary } from '@pyro/protocol/guest'
import type { z } from 'zod'
import { DISK_FILE, type Volume } from '../disk/disk-store.ts'
import type { OfflineCallOptions } from '../offline/offline-agent.ts'
import { withFrozen, type DiskState, type FrozenContext, type ImageReader } from './frozen.ts'

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
export const exportWorkspace = (
  cx: FrozenContext,
  { workspaceId, state, path }: ExportRequest,
  { signal, onData }: ExportOptions,
): Promise<ExportSummary> =>
  withFrozen(cx, workspaceId, [state], signal, async (frozen) => {
    const absolute = posix.resolve('/workspace', path)
    const options = signal === undefined ? {} : { signal }
    const fromImage =
      cx.images && (await exportImage(cx.images, { volume: frozen.volumes[0], path: absolute }, onData, options))
    const summary =
      fromImage ??
      (await frozen.inspect((tools, [volume]) => tools.inspectExport({ volume, path: absolute }, onData, options)))
    return { path: absolute, ...summary }
  })

/** Null when a machine has to look; nothing was sent then. */
const exportImage = async (
  { tools, identity, onUnreadable }: ImageReader,
  { volume, path }: { volume: Volume; path: string },
  onData: ExportOptions['onData'],
  options: OfflineCallOptions,
): Promise<z.infer<typeof exportSummary> | null> => {
  const request = { volume: join(volume.path, DISK_FILE), path, image: identity }
  const result = await tools.exportImage(request, onData, options)
  if (!('unreadable' in result)) return result
  onUnreadable(result.unreadable)
  return null
}
