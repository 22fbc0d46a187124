import type { InputOf, Progress, ResultOf } from '@pyro/protocol'
import type { CallOptions, Client } from '../transport/client.ts'

export interface ProgressOptions extends CallOptions {
  /** Called now and then while something takes longer than a moment. */
  readonly onProgress?: ((progress: Progress) => void) | undefined
}

export interface ImportOptions extends ProgressOptions {
  /** Which image of a layout that holds several: its reference name or digest. */
  readonly image?: string | undefined
  readonly replace?: boolean | undefined
}

/** What an import reads: a path on this host (tar, compressed tar, OCI layout folder), or the bytes of a tar. */
export type ImportSource = string | AsyncIterable<Uint8Array>

/** Turns progress events into calls of `onProgress`. */
export const progressSink =
  (onProgress: ProgressOptions['onProgress']) =>
  (event: unknown): void => {
    const { type, progress } = event as { type: string; progress: Progress }
    if (type === 'progress') onProgress?.(progress)
  }

/** Immutable root filesystems that workspaces start from. */
export class Environments {
  readonly #client: Client

  constructor(client: Client) {
    this.#client = client
  }

  /** The catalog and what is installed here. */
  async list(options: CallOptions = {}): Promise<ResultOf<'environment.list'>['environments']> {
    return (await this.#client.call('environment.list', {}, options)).environments
  }

  inspect(environment: string, options: CallOptions = {}): Promise<ResultOf<'environment.inspect'>> {
    return this.#client.call('environment.inspect', { environment }, options)
  }

  /** Makes an environment of the catalog available; may take a minute. */
  pull(environment: string, options: ProgressOptions = {}): Promise<ResultOf<'environment.pull'>> {
    const sink = { event: progressSink(options.onProgress) }
    return this.#client.stream('environment.pull', { environment }, { signal: options.signal, sink })
  }

  /**
   * Makes an environment from a root filesystem or an OCI image layout.
   *
   * @throws PyroError `path.not-found`, `path.unreadable`, `environment.invalid`, `path.exists`, `archive.*`
   */
  async import(
    environment: string,
    source: ImportSource,
    options: ImportOptions = {},
  ): Promise<ResultOf<'environment.import'>> {
    const { openImport } = await import('../host/import-source.ts')
    const { upload, shown } = openImport(source)
    const input: InputOf<'environment.import'> = {
      environment,
      source: shown,
      replace: options.replace ?? false,
      ...(options.image === undefined ? {} : { image: options.image }),
    }
    const sink = { event: progressSink(options.onProgress) }
    return this.#client.stream('environment.import', input, { signal: options.signal, sink, upload })
  }

  remove(environment: string, options: CallOptions = {}): Promise<ResultOf<'environment.remove'>> {
    return this.#client.call('environment.remove', { environment }, options)
  }

  /** Frees the space of caches and superseded environments; with `all`, of every unused environment. */
  prune(input: InputOf<'environment.prune'> = {}, options: CallOptions = {}): Promise<ResultOf<'environment.prune'>> {
    return this.#client.call('environment.prune', input, options)
  }
}
