import type { InputOf, ResultOf } from '@pyro/protocol'
import type { CallOptions, Client } from '../transport/client.ts'
import type { ExportResult } from '../host/export.ts'
import { progressSink, type ProgressOptions } from './environments.ts'

export interface PushOptions extends ProgressOptions {
  /** Folder inside. Default `/workspace`. */
  readonly dest?: string | undefined
  /** Only tracked and new unignored files of the git work tree. */
  readonly git?: boolean | undefined
  /** Remove what is below `dest` and not in the source. */
  readonly delete?: boolean | undefined
  /** Called for what is left out of the archive, e.g. a socket. */
  readonly onSkipped?: ((path: string, reason: string) => void) | undefined
}

export interface ExportOptions extends CallOptions {
  /** A path on this host whose parent exists, or a function that receives the bytes of the tar. */
  readonly output: string | ((tar: Uint8Array) => void | Promise<void>)
  /** As files (default), or as one tar file. */
  readonly format?: 'files' | 'tar' | undefined
  /** Overwrite what the export brings; nothing is removed. */
  readonly force?: boolean | undefined
  /** A snapshot instead of the present state. */
  readonly snapshot?: string | undefined
}

export type DiffOptions = CallOptions & Omit<InputOf<'workspace.diff'>, 'workspace'>

export interface Diff {
  readonly result: ResultOf<'workspace.diff'>
  /** The patch as bytes, exact also where it is not UTF-8; empty when not asked for. At most 32 MiB. */
  readonly patch: Uint8Array
}

export const diffWorkspace = async (
  client: Client,
  workspace: string,
  { signal, ...input }: DiffOptions = {},
): Promise<Diff> => {
  let chunks: Uint8Array[] = []
  const sink = { data: (bytes: Uint8Array): void => void chunks.push(Buffer.from(bytes)) }
  const restarted = (): void => void (chunks = [])
  const result = await client.stream('workspace.diff', { workspace, ...input }, { signal, sink, restarted })
  return { result, patch: Buffer.concat(chunks) }
}

export const pushFiles = async (
  client: Client,
  workspace: string,
  source: string,
  options: PushOptions = {},
): Promise<ResultOf<'workspace.sync.push'>> => {
  const { planSeed } = await import('../host/seed.ts')
  const plan = await planSeed(options.git === true ? { git: source } : { path: source }, options)
  const input = { workspace, dest: options.dest ?? '/workspace', delete: options.delete ?? false }
  const sink = { event: progressSink(options.onProgress) }
  return client.stream('workspace.sync.push', input, { signal: options.signal, sink, upload: { data: plan.open } })
}

export const exportFiles = async (
  client: Client,
  workspace: string,
  path: string,
  options: ExportOptions,
): Promise<ExportResult> => {
  const { receiveExport } = await import('../host/export.ts')
  return receiveExport(
    client,
    { workspace, path, ...(options.snapshot === undefined ? {} : { snapshot: options.snapshot }) },
    options,
  )
}

/**
 * Writes what the user wants in a file of their own, as `>` would: a regular file whole or not at all, a link, pipe or device
 * through.
 *
 * @throws PyroError `path.not-found`, `path.not-a-file`, `path.unwritable`, `disk.full`, `request.cancelled`
 */
export const writeOutput = async (path: string, bytes: Uint8Array, signal: AbortSignal): Promise<void> => {
  const { writeOutputFile } = await import('../host/output-file.ts')
  return writeOutputFile(path, bytes, signal)
}
