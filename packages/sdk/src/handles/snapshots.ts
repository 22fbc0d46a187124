import type { InputOf, ResultOf } from '@pyro/protocol'
import type { CallOptions, Client } from '../transport/client.ts'

/** The named snapshots of one workspace, and its baseline. */
export class Snapshots {
  readonly #client: Client
  readonly #workspace: string

  constructor(client: Client, workspace: string) {
    this.#client = client
    this.#workspace = workspace
  }

  /**
   * Keeps the whole disk under a name.
   *
   * @throws PyroError `snapshot.exists`, `snapshot.reserved`, `limit.exceeded`, `disk.full`
   */
  create(
    name: string,
    options: CallOptions & Pick<InputOf<'workspace.snapshot.create'>, 'replace'> = {},
  ): Promise<ResultOf<'workspace.snapshot.create'>> {
    const input = { workspace: this.#workspace, name, replace: options.replace ?? false }
    return this.#client.call('workspace.snapshot.create', input, options)
  }

  /** Baseline first, then oldest first. */
  async list(options: CallOptions = {}): Promise<ResultOf<'workspace.snapshot.list'>['snapshots']> {
    return (await this.#client.call('workspace.snapshot.list', { workspace: this.#workspace }, options)).snapshots
  }

  inspect(name: string, options: CallOptions = {}): Promise<ResultOf<'workspace.snapshot.inspect'>> {
    return this.#client.call('workspace.snapshot.inspect', { workspace: this.#workspace, name }, options)
  }

  delete(name: string, options: CallOptions = {}): Promise<ResultOf<'workspace.snapshot.delete'>> {
    return this.#client.call('workspace.snapshot.delete', { workspace: this.#workspace, name }, options)
  }
}
