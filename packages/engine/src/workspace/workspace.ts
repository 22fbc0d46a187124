import { join } from 'node:path'
import { PyroError, type Failure, type WorkspaceId, type WorkspaceRecord } from '@pyro/protocol'
import type { Driver, Sandbox, SandboxExit } from '../driver/driver.ts'
import type { Log } from '../lib/log.ts'
import { errorFields } from '../lib/log.ts'
import type { ReleaseRow } from '../store/releases.ts'
import type { WorkspaceRow } from '../store/workspaces.ts'
import { abortable, withDeadline } from '../lib/wait.ts'
import { Actor } from './actor.ts'
import { CommandBook } from './commands/command-book.ts'
import { decide, wrongPhase, type Ask } from './phases.ts'
import { workspaceRecord } from './record.ts'
import { exitFailure, silentFailure } from './sandbox-failure.ts'
import { volumeId, type Services } from './services.ts'

/** How long a look waits for it to be known whether a sandbox of a former engine lives. */
const ADOPTION_LOOK_MS = 500
/** How old the size of a disk in a list may be. */
const USAGE_AGE_MS = 5_000
const USAGE_TIMEOUT_MS = 800

/**
 * One workspace: its row, its sandbox, its commands and the actor that changes them. `row` is published: anybody may read it at
 * any time. Whatever changes it runs in a turn of the actor.
 */
export class Workspace {
  readonly services: Services
  readonly actor: Actor
  readonly commands: CommandBook
  readonly log: Log
  #looking = new AbortController()
  #row: WorkspaceRow
  #sandbox: Sandbox | null = null
  #diskBytes: number | null = null
  #diskBytesAt = 0
  /** Diffs and exports under way: they make momentary volumes. */
  looks = 0
  /** Taking over what a former engine left; null when that is done. Never rejects. */
  adoption: Promise<void> | null = null

  constructor(services: Services, row: WorkspaceRow) {
    this.services = services
    this.#row = row
    this.log = services.log.child({ workspace: row.id })
    this.actor = new Actor(() => this.#row.name)
    this.commands = new CommandBook({
      store: services.store,
      limits: services.config.limits,
      logFolder: commandLogFolder(services.config.home),
      logger: this.log,
      host: {
        workspaceId: row.id,
        name: () => this.#row.name,
        nextSequence: () => this.#nextCommand(),
        // What an image holds only its own kernel knows.
        diskFull: () =>
          this.driver.volumes === 'images'
            ? Promise.resolve(false)
            : this.driver.disks.isFull(volumeId(this.#row.volume)),
        lastReset: () => this.#row.lastResetAt,
      },
    })
  }

  get id(): WorkspaceId {
    return this.#row.id
  }

  get row(): WorkspaceRow {
    return this.#row
  }

  get driver(): Driver {
    return this.services.drivers.get(this.#row.driver)
  }

  get sandbox(): Sandbox | null {
    return this.#sandbox
  }

  /** Inside a transaction, or alone. The row of the store and the published one change together. */
  change(patch: Partial<WorkspaceRow>): void {
    const before = this.#row
    const next = { ...before, ...patch }
    const { store } = this.services
    store.workspaces.update(next)
    store.onRollback(() => (this.#row = before))
    this.#row = next
  }

  /** Counts as activity: the list shows the newest first. */
  touch(): void {
    this.#row = { ...this.#row, activityAt: Date.now() }
    try {
      this.services.store.workspaces.touch(this.#row)
    } catch (error) {
      this.log.warn(errorFields(error), 'the time of the last activity was not written down')
    }
  }

  record(): WorkspaceRecord {
    const failure = this.#row.failure ?? this.#sandbox?.trouble ?? silentFailure(this.#row, this.#sandbox)
    return workspaceRecord(this.services.store, { ...this.#row, failure }, this.commands.last(), this.#diskBytes)
  }

  /** With the size of the disk, unless the store is slow to say, and with what a former engine left, unless that is. */
  async freshRecord(): Promise<WorkspaceRecord> {
    const isOld = Date.now() - this.#diskBytesAt > USAGE_AGE_MS
    await Promise.all([this.#takenOver(), isOld ? this.#measure() : null])
    return this.record()
  }

  async #takenOver(): Promise<void> {
    if (this.adoption === null) return
    // Lists answer within a second, whatever became of a sandbox.
    await withDeadline(this.adoption, ADOPTION_LOOK_MS, () => new Error('late')).catch(() => undefined)
  }

  /** A turn of the actor for an ask that its phase allows. Waits, bounded, for other turns and passing phases. */
  turn<T>(ask: Ask, what: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    const waitMs = this.services.config.limits.phaseWaitMs
    return this.actor.turn({ what, waitMs, signal }, () => {
      if (decide(ask, this.#row.phase) === 'reject') throw wrongPhase(this.#row.name, what, this.#row.phase)
      return work()
    })
  }

  /** A turn for what the engine itself has to do; it always comes. */
  ownTurn<T>(what: string, work: () => Promise<T>): Promise<T> {
    return this.actor.turn({ what, waitMs: null }, work)
  }

  /** Settles when it is known what a former engine left: until then rows speak of sandboxes and commands that may be gone. */
  async adopted(what: string, signal: AbortSignal): Promise<void> {
    if (this.adoption === null) return
    const { phaseWaitMs } = this.services.config.limits
    const late = (): PyroError =>
      new PyroError('workspace.busy', `"${this.#row.name}" is being taken over for over ${phaseWaitMs} ms`, {
        hint: `pyro workspace status ${this.#row.name}`,
        data: { what },
      })
    await withDeadline(abortable(this.adoption, signal), phaseWaitMs, late)
  }

  /** Settles when no passing phase is in the way of somebody who only looks. */
  async settled(ask: Ask, what: string, signal: AbortSignal): Promise<void> {
    await this.adopted(what, signal)
    if (decide(ask, this.#row.phase) === 'wait') await this.turn(ask, what, signal, () => Promise.resolve())
  }

  /** The running sandbox; starts a stopped workspace first (`start` does it, in the turn it is called in). */
  async use(what: string, signal: AbortSignal, start: () => Promise<void>): Promise<Sandbox> {
    for (;;) {
      const decision = decide('use', this.#row.phase)
      if (decision === 'accept' && this.#sandbox !== null) return this.#sandbox
      if (decision === 'reject') throw wrongPhase(this.#row.name, what, this.#row.phase)
      await this.turn('use', what, signal, async () => {
        if (decide('use', this.#row.phase) === 'start') await start()
      })
      if (this.#row.phase === 'running' && this.#sandbox === null) throw this.#noSandbox(what)
    }
  }

  /** In a turn. From now on this sandbox carries the workspace; its death stops it. */
  attach(sandbox: Sandbox): void {
    this.#carry(sandbox)
    void sandbox.exited.then((exit) => this.#sandboxEnded(sandbox, exit))
  }

  /** In a turn. The sandbox no longer carries the workspace: whatever becomes of it is nobody's concern here. */
  detach(): Sandbox | null {
    return this.#carry(null)
  }

  #carry(sandbox: Sandbox | null): Sandbox | null {
    const before = this.#sandbox
    this.services.store.onRollback(() => (this.#sandbox = before))
    this.#sandbox = sandbox
    return before
  }

  /** Aborts when the disks are about to go: for whoever only reads them. */
  get looking(): AbortSignal {
    return this.#looking.signal
  }

  stopLooks(): void {
    this.#looking.abort(notFound(this.#row.name))
    this.#looking = new AbortController()
  }

  /** The workspace does not exist any more: whoever waits or comes is told so. */
  retire(): void {
    this.actor.close(notFound(this.#row.name))
  }

  #nextCommand(): number {
    this.#row = { ...this.#row, activityAt: Date.now(), commandSequence: this.#row.commandSequence + 1 }
    this.services.store.workspaces.touch(this.#row)
    return this.#row.commandSequence
  }

  async #sandboxEnded(sandbox: Sandbox, exit: SandboxExit): Promise<void> {
    if (this.#sandbox !== sandbox) return
    this.log.warn({ sandbox: sandbox.record.spec.sandboxId, ...exit }, 'the sandbox ended')
    const failure = exitFailure(this.#row, exit)
    const limit = exit.reason === 'memory' || exit.reason === 'pids' ? exit.reason : null
    const interrupted = this.commands.interruptAll({ by: failure.message, limit })
    try {
      await this.ownTurn('the end of its sandbox', async () => {
        await interrupted
        if (this.#sandbox === sandbox) await this.#recordEnd(sandbox, failure)
      })
    } catch (error) {
      this.log.error(errorFields(error), 'the end of a sandbox was not recorded')
    }
  }

  async #recordEnd(sandbox: Sandbox, failure: Failure): Promise<void> {
    const { store, releaser } = this.services
    const id = sandbox.record.spec.sandboxId
    releaser.hold(sandbox)
    const end = (): ReleaseRow => {
      this.detach()
      const row = store.sandboxes.get(id)
      if (row !== null) store.sandboxes.put({ ...row, state: 'releasing' })
      this.change({ phase: 'stopped', failure })
      return releaser.give(this.#row.id, { kind: 'sandbox', sandbox: id })
    }
    const given = await store.insist(() => store.transaction(end))
    releaser.schedule([given])
    await releaser.settled(this.#row.id)
  }

  async #measure(): Promise<void> {
    try {
      const usage = this.driver.disks.usage(volumeId(this.#row.volume))
      const late = (): Error => new PyroError('request.timed-out', 'the disk store did not say the size in time')
      this.#diskBytes = (await withDeadline(usage, USAGE_TIMEOUT_MS, late)).ownedBytes
    } catch (error) {
      this.log.debug(errorFields(error), 'the size of the disk is not known')
    }
    this.#diskBytesAt = Date.now()
  }

  #noSandbox(what: string): PyroError {
    return new PyroError('sandbox.unreachable', `the sandbox of "${this.#row.name}" was not found for ${what}`, {
      hint: `pyro workspace reset ${this.#row.name}`,
    })
  }
}

export const notFound = (ref: string, suggestion: string | null = null): PyroError =>
  new PyroError('workspace.not-found', `there is no workspace "${ref}"`, {
    hint: suggestion === null ? 'pyro workspace list' : `did you mean ${suggestion}? pyro workspace list`,
    data: { workspace: ref },
  })

/** Logs of commands, by workspace. */
export const commandLogFolder = (home: string): string => join(home, 'commands')
