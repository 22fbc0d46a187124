import type { InputOf, Progress, ResultOf, WorkspaceRecord } from '@pyro/protocol'
import type { Seed } from '../host/seed.ts'
import type { CallOptions, Client } from '../transport/client.ts'
import { progressSink } from './environments.ts'
import { Workspace } from './workspace.ts'

export type CreateOptions = CallOptions &
  Omit<InputOf<'workspace.create'>, 'seed'> & {
    /** Host files for `/workspace`: `{ git: folder }` or `{ path: folderOrArchive }`. */
    readonly seed?: Seed | undefined
    /** True: disposing the handle leaves the workspace. */
    readonly keep?: boolean | undefined
    readonly onProgress?: ((progress: Progress) => void) | undefined
    /** Called for what is left out of the seed, e.g. a socket. */
    readonly onSkipped?: ((path: string, reason: string) => void) | undefined
  }

type ListOptions = CallOptions & InputOf<'workspace.list'>
type DeleteOptions = CallOptions & Omit<InputOf<'workspace.delete'>, 'workspaces'>

/** All workspaces of one engine. */
export class Workspaces {
  readonly #client: Client

  constructor(client: Client) {
    this.#client = client
  }

  /**
   * Creates a workspace and waits until it runs. Disposing the handle deletes it, unless `keep` is set or `ifAbsent` found an
   * existing one.
   *
   * @throws PyroError `workspace.name-taken`, `environment.not-found`, `isolation.unavailable`, `path.*` and `archive.*` for seeds
   */
  async create(options: CreateOptions = {}): Promise<Workspace> {
    const { keep, ...rest } = options
    const created = await createWorkspace(this.#client, rest)
    return new Workspace(this.#client, created, { owned: created.created && keep !== true })
  }

  /** A handle on an existing workspace; disposing it leaves the workspace. */
  async get(workspace: string, options: CallOptions = {}): Promise<Workspace> {
    return new Workspace(this.#client, await this.#client.call('workspace.status', { workspace }, options), {
      owned: false,
    })
  }

  /** Newest activity first. */
  async list({ signal, ...input }: ListOptions = {}): Promise<WorkspaceRecord[]> {
    return (await this.#client.call('workspace.list', input, { signal })).workspaces
  }

  /** Deletes several; what could not be deleted is in `errors`. */
  delete(
    workspaces: readonly string[],
    { signal, ...input }: DeleteOptions = {},
  ): Promise<ResultOf<'workspace.delete'>> {
    return this.#client.call('workspace.delete', { workspaces: [...workspaces], ...input }, { signal })
  }
}

/** The record alone, for surfaces that need no handle. */
export const createWorkspace = async (
  client: Client,
  { signal, seed, onProgress, onSkipped, ...fields }: Omit<CreateOptions, 'keep'>,
): Promise<ResultOf<'workspace.create'>> => {
  const sink = { event: progressSink(onProgress) }
  if (seed === undefined) return client.stream('workspace.create', fields, { signal, sink })
  const { planSeed } = await import('../host/seed.ts')
  const plan = await planSeed(seed, { onSkipped })
  const upload = { data: plan.open }
  return client.stream('workspace.create', { ...fields, seed: plan.input }, { signal, sink, upload })
}
