import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Sandbox, SandboxRecord } from '../driver/driver.ts'
import { errorFields, type Log } from '../lib/log.ts'
import { settleLater, sleep, type Settled } from '../lib/wait.ts'
import { removeStaleLogs } from '../store/command-logs.ts'
import type { Release, ReleaseRow } from '../store/releases.ts'
import type { Store } from '../store/store.ts'
import type { DriverChoice } from './driver-choice.ts'
import { volumeId } from './services.ts'
import type { VolumePins } from './volume-pins.ts'

const RETRY_PAUSES_MS = [200, 2_000, 10_000]

export interface ReleaserOptions {
  readonly store: Store
  readonly drivers: DriverChoice
  readonly pins: VolumePins
  readonly logFolder: string
  readonly log: Log
}

/**
 * Releases in the background what a committed transaction gave up. For each workspace in order: a disk goes only when the sandbox
 * that wrote to it is gone. What fails is tried again, and by the next engine.
 */
export class Releaser {
  readonly #options: ReleaserOptions
  readonly #chains = new Map<string, Promise<void>>()
  /** Handles of sandboxes that this engine still holds. */
  readonly #handles = new Map<string, Sandbox>()
  #pending = 0
  #idle: Settled<void> | null = null

  constructor(options: ReleaserOptions) {
    this.#options = options
  }

  /** Inside the transaction that gives the thing up; `schedule` what it returns after the transaction. */
  give(workspaceId: string, thing: Release): ReleaseRow {
    return this.#options.store.releases.add(workspaceId, thing)
  }

  /** The handle of a sandbox that is about to be released, if there is one. */
  hold(sandbox: Sandbox): void {
    this.#handles.set(sandbox.record.spec.sandboxId, sandbox)
  }

  schedule(rows: readonly ReleaseRow[]): void {
    for (const row of rows) {
      this.#pending++
      const before = this.#chains.get(row.workspaceId) ?? Promise.resolve()
      const next = before.then(() => this.#release(row))
      this.#chains.set(row.workspaceId, next)
      void this.#watch(row, next)
    }
  }

  /** What a former engine has left to do. */
  scheduleAll(): void {
    this.schedule(this.#options.store.releases.all())
  }

  /** Settles when what this workspace gave up so far is released, or failed to be. */
  async settled(workspaceId: string): Promise<void> {
    await Promise.allSettled([this.#chains.get(workspaceId)])
  }

  /** Settles when nothing is left to release; things that failed are not waited for. */
  async idle(): Promise<void> {
    if (this.#pending === 0) return
    this.#idle ??= settleLater<void>()
    await this.#idle.promise
  }

  async #watch(row: ReleaseRow, chain: Promise<void>): Promise<void> {
    const { workspaceId, thing } = row
    try {
      await chain
    } catch (error) {
      this.#options.log.error({ workspace: workspaceId, thing, ...errorFields(error) }, 'not released')
    }
    if (this.#chains.get(workspaceId) === chain) this.#chains.delete(workspaceId)
    this.#pending--
    if (this.#pending > 0) return
    this.#idle?.resolve()
    this.#idle = null
  }

  async #release(row: ReleaseRow): Promise<void> {
    for (const [attempt, pauseMs] of [...RETRY_PAUSES_MS, null].entries()) {
      try {
        await this.#releaseThing(row.workspaceId, row.thing)
        this.#options.store.releases.delete(row.id)
        return
      } catch (error) {
        if (pauseMs === null) throw error
        this.#options.log.warn({ thing: row.thing, attempt, ...errorFields(error) }, 'release failed, tried again')
        await sleep(pauseMs)
      }
    }
  }

  async #releaseThing(workspaceId: string, thing: Release): Promise<void> {
    switch (thing.kind) {
      case 'sandbox':
        return this.#releaseSandbox(thing.sandbox)
      case 'volume':
        await this.#options.pins.free(thing.volume)
        this.#refuseCarried(thing.volume)
        return this.#options.drivers.get(thing.driver).disks.remove(volumeId(thing.volume))
      case 'command-logs':
        return removeStaleLogs(this.#options.store, this.#options.logFolder, workspaceId)
      case 'command-log':
        return rm(join(this.#options.logFolder, workspaceId, `${thing.command}.log`), { force: true })
    }
  }

  #refuseCarried(volume: string): void {
    const carrier = this.#options.store.sandboxes
      .all()
      .find(({ record }) => (record as SandboxRecord).spec.volume.id === volume)
    if (carrier !== undefined) throw new Error(`${carrier.id} may still write to ${volume}`)
  }

  async #releaseSandbox(sandboxId: string): Promise<void> {
    const { store, drivers } = this.#options
    const row = store.sandboxes.get(sandboxId)
    if (row === null) return
    const record = row.record as SandboxRecord
    const handle = this.#handles.get(sandboxId)
    if (handle !== undefined) await handle.stop()
    else await drivers.get(record.driver).reclaim(record)
    this.#handles.delete(sandboxId)
    store.sandboxes.delete(sandboxId)
  }
}
