import { PyroError, isErrorCode } from '@pyro/protocol/client'
import type { CommandInput, CommandResult, InputOf, ResultOf, WorkspaceRecord } from '@pyro/protocol'
import type { ExportResult } from '../host/export.ts'
import type { CallOptions, Client } from '../transport/client.ts'
import { followOutput, type LogsOptions, type OutputChunk } from '../transport/output.ts'
import type { Command } from './command.ts'
import { Commands } from './commands.ts'
import { execCommand, startCommand, type ExecOptions } from './exec.ts'
import { Files } from './files.ts'
import { Snapshots } from './snapshots.ts'
import {
  diffWorkspace,
  exportFiles,
  pushFiles,
  type Diff,
  type DiffOptions,
  type ExportOptions,
  type PushOptions,
} from './transfer.ts'

export interface HandleOrigin {
  /** True when disposing this handle deletes the workspace. */
  readonly owned: boolean
}

type Without<Id extends Parameters<Client['call']>[0]> = Omit<InputOf<Id>, 'workspace'>

/**
 * One workspace. The handle holds no connection of its own; any number of them may exist, in any process. `info` is what the last
 * answer said; `status()` asks again.
 */
export class Workspace implements AsyncDisposable {
  readonly id: string
  readonly snapshots: Snapshots
  readonly files: Files
  readonly commands: Commands
  readonly #client: Client
  #info: WorkspaceRecord
  #owned: boolean

  constructor(client: Client, record: WorkspaceRecord, origin: HandleOrigin) {
    this.id = record.workspaceId
    this.#client = client
    this.#info = record
    this.#owned = origin.owned
    this.snapshots = new Snapshots(client, this.id)
    this.files = new Files(client, this.id)
    this.commands = new Commands(client, this.id)
  }

  get name(): string {
    return this.#info.name
  }

  get info(): WorkspaceRecord {
    return this.#info
  }

  /** True when this handle made the workspace and disposing it deletes it. */
  get owned(): boolean {
    return this.#owned
  }

  /**
   * Runs a command to its end. A string runs as `sh -lc`, an array is exact argv. Non-zero is data, unless `check` is set.
   *
   * @throws PyroError `command.interrupted` when the sandbox ends first, `command.failed` with `check`
   */
  exec(command: CommandInput, options?: ExecOptions & { readonly detach?: false }): Promise<CommandResult>
  /** Starts a command and leaves it running. */
  exec(command: CommandInput, options: ExecOptions & { readonly detach: true }): Promise<Command>
  exec(
    command: CommandInput,
    { detach, ...options }: ExecOptions & { readonly detach?: boolean } = {},
  ): Promise<CommandResult | Command> {
    return detach === true
      ? startCommand(this.#client, this.id, command, options)
      : execCommand(this.#client, this.id, command, options)
  }

  /** Output of a command (default: the last one) as it was printed; with `follow` until it ends. */
  logs({ signal, onGap, ...input }: LogsOptions & Without<'workspace.logs'> = {}): AsyncGenerator<
    OutputChunk,
    CommandResult,
    undefined
  > {
    return followOutput(this.#client, { workspace: this.id, ...input }, { signal, onGap })
  }

  async status(options: CallOptions = {}): Promise<WorkspaceRecord> {
    return this.#learn(await this.#client.call('workspace.status', { workspace: this.id }, options))
  }

  async update({ signal, ...input }: CallOptions & Without<'workspace.update'>): Promise<WorkspaceRecord> {
    return this.#learn(await this.#client.call('workspace.update', { workspace: this.id, ...input }, { signal }))
  }

  async stop(options: CallOptions = {}): Promise<WorkspaceRecord> {
    return this.#learn(await this.#client.call('workspace.stop', { workspace: this.id }, options))
  }

  async start(options: CallOptions = {}): Promise<WorkspaceRecord> {
    return this.#learn(await this.#client.call('workspace.start', { workspace: this.id }, options))
  }

  /** Replaces the whole sandbox by a new one on a snapshot, by default the baseline. Id, name and snapshots stay. */
  reset({ signal, ...input }: CallOptions & Without<'workspace.reset'> = {}): Promise<ResultOf<'workspace.reset'>> {
    return this.#client.call('workspace.reset', { workspace: this.id, ...input }, { signal })
  }

  /** Deletes the workspace with its disk and snapshots, for ever. Deleting it twice is no error. */
  async delete(options: CallOptions = {}): Promise<ResultOf<'workspace.delete'>> {
    const answer = await this.#client.call('workspace.delete', { workspaces: [this.id], ifExists: true }, options)
    const [failed] = answer.errors
    if (failed !== undefined) {
      const code = isErrorCode(failed.code) ? failed.code : 'internal'
      throw new PyroError(code, failed.message, { hint: failed.hint ?? undefined })
    }
    this.#owned = false
    return answer
  }

  /** What changed between two states, as entries and as a patch git can apply. */
  diff(options: DiffOptions = {}): Promise<Diff> {
    return diffWorkspace(this.#client, this.id, options)
  }

  /**
   * Copies a folder or archive of this host into the running workspace.
   *
   * @throws PyroError `path.not-found`, `path.unreadable`, `path.not-a-file` before anything is sent, `archive.*`, `disk.full`
   */
  push(source: string, options: PushOptions = {}): Promise<ResultOf<'workspace.sync.push'>> {
    return pushFiles(this.#client, this.id, source, options)
  }

  /**
   * Copies a file or folder out to this host. Nothing half-made is left behind, no symlink is followed, set-id bits are dropped.
   *
   * @throws PyroError `path.exists` without `force`, `path.not-found`
   */
  export(path: string, options: ExportOptions): Promise<ExportResult> {
    return exportFiles(this.#client, this.id, path, options)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#owned) await this.delete()
  }

  #learn(record: WorkspaceRecord): WorkspaceRecord {
    this.#info = record
    return record
  }
}
