import type { InputOf, ResultOf } from '@pyro/protocol'
import type { CallOptions, Client } from '../transport/client.ts'

type ReadOptions = CallOptions & Omit<InputOf<'workspace.file.read'>, 'workspace' | 'path'>
type WriteOptions = CallOptions & Omit<InputOf<'workspace.file.write'>, 'workspace' | 'path' | 'text' | 'textBase64'>

/** Files of one workspace. Paths are relative to `/workspace` unless `root` says otherwise. */
export class Files {
  readonly #client: Client
  readonly #workspace: string

  constructor(client: Client, workspace: string) {
    this.#client = client
    this.#workspace = workspace
  }

  /** By lines (`startLine`, `maxLines`) or by bytes (`offset`, `maxBytes`). */
  read(path: string, { signal, ...input }: ReadOptions = {}): Promise<ResultOf<'workspace.file.read'>> {
    return this.#client.call('workspace.file.read', { workspace: this.#workspace, path, ...input }, { signal })
  }

  /** Writes atomically; with `oldText`, replaces that text, which must occur once. At most 16 MiB. */
  write(
    path: string,
    content: string | Uint8Array,
    { signal, ...input }: WriteOptions = {},
  ): Promise<ResultOf<'workspace.file.write'>> {
    const body =
      typeof content === 'string' ? { text: content } : { textBase64: Buffer.from(content).toString('base64') }
    return this.#client.call(
      'workspace.file.write',
      { workspace: this.#workspace, path, ...body, ...input },
      { signal },
    )
  }
}
