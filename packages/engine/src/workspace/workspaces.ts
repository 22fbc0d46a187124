import type { Readable } from 'node:stream'
import { isPyroError, PyroError, WORKSPACE_ID_PATTERN, type ParsedInputOf, type ResultOf } from '@pyro/protocol'
import { errorFields } from '../lib/log.ts'
import { nearest } from '../lib/nearest.ts'
import { abortable, LONGEST_TIMER_MS, settleLater, type Settled } from '../lib/wait.ts'
import type { WorkspaceRow } from '../store/workspaces.ts'
import { freshName, refuseIdLike } from './naming.ts'
import { createWorkspace, newRow, type CreateInput } from './operations/create.ts'
import { deleteWorkspace } from './operations/delete.ts'
import { startWorkspace } from './operations/start.ts'
import { ownCall, type Call, type Services } from './services.ts'
import { notFound, Workspace } from './workspace.ts'

/** An expired workspace that could not be deleted is tried again. */
const EXPIRY_RETRY_MS = 60_000

/** All workspaces of this home. */
export class Workspaces {
  readonly #services: Services
  readonly #byId = new Map<string, Workspace>()
  readonly #byName = new Map<string, Workspace>()
  /** Names of creates under way; each settles when its create has ended, well or not. */
  readonly #reserved = new Map<string, Settled<void>>()
  #expiry: NodeJS.Timeout | undefined

  constructor(services: Services) {
    this.#services = services
  }

  /** Rows of the store become workspaces; nothing is started or looked at. */
  load(): Workspace[] {
    for (const row of this.#services.store.workspaces.all()) this.#add(new Workspace(this.#services, row))
    this.scheduleExpiry()
    return [...this.#byId.values()]
  }

  get count(): number {
    return this.#byId.size
  }

  all(): Workspace[] {
    return [...this.#byId.values()]
  }

  find(ref: string): Workspace | null {
    return this.#byId.get(ref) ?? this.#byName.get(ref) ?? null
  }

  /** By id or name; an unknown one suggests the nearest. */
  get(ref: string): Workspace {
    const found = this.find(ref)
    if (found !== null) return found
    throw notFound(ref, WORKSPACE_ID_PATTERN.test(ref) ? null : nearest(ref, this.#byName.keys()))
  }

  /** Newest activity first. */
  list(input: ParsedInputOf<'workspace.list'>): Workspace[] {
    const chosen = input.workspaces.length > 0 ? input.workspaces.map((ref) => this.get(ref)) : this.all()
    return [...new Set(chosen)].filter(({ row }) => hasLabels(row, input.labels)).sort(byActivity)
  }

  /** A workspace that runs. `ephemeral`: a `run` deletes it when its command has ended. */
  async create(
    input: CreateInput,
    seed: Readable | null,
    call: Call,
    ephemeral: string | null = null,
  ): Promise<ResultOf<'workspace.create'>> {
    const startedAt = performance.now()
    // What a former engine has half made still has its name.
    if (input.name !== undefined) await this.#byName.get(input.name)?.adopted('create', call.signal)
    do {
      const existing = await this.#existing(input, call, startedAt)
      if (existing !== null) {
        seed?.destroy()
        return existing
      }
      // Another create may have waited for the same end, and be first.
    } while (input.ifAbsent && input.name !== undefined && this.#isTaken(input.name))
    const name = this.#reserve(input)
    try {
      refuseTooMany(this.#services, this.#byId.size, input)
      const choice = await this.#services.drivers.choose(input, call)
      using lease = await this.#services.environments.acquire(input.environment, {
        pull: input.pull,
        form: choice.driver.volumes === 'trees' ? 'tree' : { diskMib: input.diskMib },
        signal: call.signal,
        ...(call.onProgress === undefined ? {} : { onProgress: call.onProgress }),
      })
      const workspace = new Workspace(this.#services, { ...newRow(input, name, choice, lease), ephemeral })
      this.#add(workspace)
      try {
        const created = await workspace.ownTurn('its creation', () => createWorkspace(workspace, seed, call, startedAt))
        this.scheduleExpiry()
        return created
      } catch (error) {
        this.forget(workspace)
        throw error
      }
    } finally {
      this.#reserved.get(name)?.resolve()
      this.#reserved.delete(name)
    }
  }

  /** Errors are per item, so that one stuck workspace does not keep the others. */
  async delete(input: ParsedInputOf<'workspace.delete'>, call: Call): Promise<ResultOf<'workspace.delete'>> {
    const named = input.workspaces.length === 0 ? this.all() : input.workspaces.flatMap((ref) => this.find(ref) ?? [])
    await Promise.allSettled(named.map((workspace) => workspace.adopted('delete', call.signal)))
    const result: ResultOf<'workspace.delete'> = { deleted: this.#deletedBefore(call), errors: [] }
    const targets = this.#deleteTargets(input, result)
    await Promise.all(
      targets.map(async (workspace) => {
        const { id, name } = workspace.row
        try {
          const snapshots = await this.deleteOne(workspace, call)
          result.deleted.push({ workspaceId: id, name, snapshots })
        } catch (error) {
          if (call.signal.aborted) throw error
          if (isGoneAlready(error) && input.ifExists) return
          result.errors.push(errorItem(name, error))
        }
      }),
    )
    result.deleted.sort((a, b) => (a.name < b.name ? -1 : 1))
    return result
  }

  async deleteOne(workspace: Workspace, call: Call): Promise<number> {
    const snapshots = await workspace.turn('delete', 'delete', call.signal, () => deleteWorkspace(workspace, call))
    this.forget(workspace)
    return snapshots
  }

  /** In a turn. */
  update(workspace: Workspace, patch: Pick<WorkspaceRow, 'name' | 'labels' | 'expiresAt'>): void {
    const { name } = workspace.row
    if (patch.name !== name) {
      refuseIdLike(patch.name)
      this.#refuseTaken(patch.name)
    }
    workspace.change(patch)
    if (patch.name !== name) {
      this.#byName.delete(name)
      this.#byName.set(patch.name, workspace)
    }
    this.scheduleExpiry()
  }

  /** The workspace is gone from the store. */
  forget(workspace: Workspace): void {
    this.#byId.delete(workspace.id)
    if (this.#byName.get(workspace.row.name) === workspace) this.#byName.delete(workspace.row.name)
    workspace.retire()
  }

  /** One timer, for the next workspace whose time passes. */
  scheduleExpiry(): void {
    clearTimeout(this.#expiry)
    const times = this.all().flatMap(({ row }) => (row.expiresAt === null ? [] : [row.expiresAt]))
    if (times.length === 0) return
    const waitMs = Math.max(0, Math.min(...times) - Date.now())
    this.#expiry = setTimeout(() => void this.#expire(), Math.min(waitMs, LONGEST_TIMER_MS))
    this.#expiry.unref()
  }

  close(): void {
    clearTimeout(this.#expiry)
  }

  #add(workspace: Workspace): void {
    this.#byId.set(workspace.id, workspace)
    this.#byName.set(workspace.row.name, workspace)
  }

  #reserve(input: CreateInput): string {
    const name = input.name ?? freshName((candidate) => this.#isTaken(candidate))
    refuseIdLike(name)
    this.#refuseTaken(name)
    this.#reserved.set(name, settleLater<void>())
    return name
  }

  #isTaken(name: string): boolean {
    return this.#byName.has(name) || this.#reserved.has(name)
  }

  #refuseTaken(name: string): void {
    if (!this.#isTaken(name)) return
    throw new PyroError('workspace.name-taken', `there is a workspace "${name}" already; nothing was changed`, {
      hint: `take another name, or use --if-absent; pyro workspace status ${name}`,
      data: { name },
    })
  }

  async #existing(input: CreateInput, call: Call, startedAt: number): Promise<ResultOf<'workspace.create'> | null> {
    if (!input.ifAbsent) return null
    if (input.name === undefined) {
      throw new PyroError('input.invalid', 'ifAbsent needs a name; nothing was changed', {
        data: { field: 'ifAbsent' },
      })
    }
    await abortable(this.#reserved.get(input.name)?.promise ?? Promise.resolve(), call.signal)
    const workspace = this.#byName.get(input.name)
    if (workspace === undefined) return null
    const record = await workspace.turn('start', 'create', call.signal, () =>
      startWorkspace(workspace, { ...call, requestId: null }),
    )
    return { ...record, created: false, durationMs: Math.round(performance.now() - startedAt) }
  }

  /** What this very request has deleted before its engine was killed. */
  #deletedBefore({ requestId }: Call): ResultOf<'workspace.delete'>['deleted'] {
    if (requestId === null) return []
    return this.#services.store.requests.parts(requestId) as ResultOf<'workspace.delete'>['deleted']
  }

  #deleteTargets(input: ParsedInputOf<'workspace.delete'>, result: ResultOf<'workspace.delete'>): Workspace[] {
    const labelled = Object.keys(input.labels).length > 0
    if (input.workspaces.length === 0) {
      if (input.all || labelled) return this.all().filter(({ row }) => hasLabels(row, input.labels))
      throw new PyroError('input.invalid', 'workspaces: name at least one, or set all; nothing was deleted', {
        data: { field: 'workspaces' },
      })
    }
    if (input.all || labelled) {
      throw new PyroError(
        'input.invalid',
        'workspaces: either names or all and labels, not both; nothing was deleted',
        {
          data: { field: 'workspaces' },
        },
      )
    }
    const found: Workspace[] = []
    const gone = new Set(result.deleted.flatMap(({ workspaceId, name }) => [workspaceId, name]))
    for (const ref of new Set(input.workspaces)) {
      if (gone.has(ref)) continue
      try {
        found.push(this.get(ref))
      } catch (error) {
        if (!isGoneAlready(error)) throw error
        if (!input.ifExists) result.errors.push(errorItem(ref, error))
      }
    }
    // One unknown name alone is an error like any other.
    const [only] = result.errors
    if (found.length === 0 && only !== undefined && result.errors.length === 1) this.get(only.workspace)
    return [...new Set(found)]
  }

  async #expire(): Promise<void> {
    const expired = this.all().filter(({ row }) => hasExpired(row))
    const ends = await Promise.all(expired.map((workspace) => this.#expireOne(workspace)))
    if (ends.every((deleted) => deleted)) this.scheduleExpiry()
    else this.#expiry = setTimeout(() => void this.#expire(), EXPIRY_RETRY_MS).unref()
  }

  /** False when it has to be tried again. */
  async #expireOne(workspace: Workspace): Promise<boolean> {
    const call = ownCall()
    try {
      await workspace.turn('delete', 'delete', call.signal, async () => {
        // It may have got more time while this waited for its turn.
        if (!hasExpired(workspace.row)) return
        await deleteWorkspace(workspace, call, { expired: true })
        this.forget(workspace)
        workspace.log.info('expired and deleted')
      })
      return true
    } catch (error) {
      if (isGoneAlready(error)) return true
      workspace.log.error(errorFields(error), 'an expired workspace was not deleted')
      return false
    }
  }
}

const hasExpired = ({ expiresAt }: WorkspaceRow): boolean => expiresAt !== null && expiresAt <= Date.now()

const hasLabels = (row: WorkspaceRow, labels: Readonly<Record<string, string>>): boolean =>
  Object.entries(labels).every(([key, value]) => row.labels[key] === value)

const byActivity = (a: Workspace, b: Workspace): number =>
  b.row.activityAt - a.row.activityAt || b.row.createdAt - a.row.createdAt || (a.id < b.id ? -1 : 1)

const isGoneAlready = (error: unknown): boolean => isPyroError(error) && error.code === 'workspace.not-found'

const errorItem = (ref: string, error: unknown): ResultOf<'workspace.delete'>['errors'][number] => ({
  workspace: ref,
  code: isPyroError(error) ? error.code : 'internal',
  message: error instanceof Error ? error.message : String(error),
  hint: isPyroError(error) ? error.hint : null,
})

const refuseTooMany = (services: Services, count: number, input: CreateInput): void => {
  const { limits } = services.config
  if (count >= limits.workspaces) {
    throw new PyroError('limit.exceeded', `there are ${count} workspaces, at most ${limits.workspaces}`, {
      hint: 'pyro workspace delete WS',
      data: { limit: 'workspaces', max: limits.workspaces },
    })
  }
  refuseManyLabels(limits.labelsPerWorkspace, Object.keys(input.labels).length)
}

export const refuseManyLabels = (max: number, count: number): void => {
  if (count <= max) return
  throw new PyroError('limit.exceeded', `${count} labels, at most ${max}; nothing was changed`, {
    data: { limit: 'labelsPerWorkspace', max },
  })
}
