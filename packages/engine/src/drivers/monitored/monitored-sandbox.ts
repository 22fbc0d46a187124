import { rm } from 'node:fs/promises'
import { isPyroError, type Failure } from '@pyro/protocol'
import type { MonitorExit } from '@pyro/protocol/guest'
import type { AgentClient } from '../../agent/agent-client.ts'
import type { AgentLink } from '../../agent/agent-link.ts'
import type { LimitCounters, Sandbox, SandboxExit, SandboxRecord } from '../../driver/driver.ts'
import { settleLater, sleep } from '../../lib/wait.ts'
import { isAlive, signalProcess, type ProcessIdentity } from '../../process/identity.ts'
import { readExit, type FolderWatch, tailOf } from './monitor.ts'
import type { SandboxCgroup } from './sandbox-cgroup.ts'
import type { SandboxPaths } from './sandbox-paths.ts'
import type { SandboxWatch, Technology } from './technology.ts'

/** How often a sandbox is looked at that says nothing: its monitor may have been killed, so that no exit file comes. */
const LOOK_INTERVAL_MS = 2_000
/** From the death of the sandbox to the monitor's exit file. */
const EXIT_FILE_WAIT_MS = 3_000
const EXIT_FILE_STEP_MS = 10
/** A shut-down that the agent promised may take this much longer than its grace. */
const SHUTDOWN_EXTRA_MS = 2_000
/** Of what a guest wrote before it ended. */
export const LAST_WORDS_BYTES = 16 * 1024
/** What an agent that obeys may take to write everything out: to cut it off would lose what is on its way to the disk. */
const LAST_FLUSH_MS = 40_000

export interface MonitoredParts {
  readonly record: SandboxRecord
  readonly paths: SandboxPaths
  readonly cgroup: SandboxCgroup | null
  readonly link: AgentLink
  readonly watcher: FolderWatch
  readonly init: ProcessIdentity
  readonly monitor: ProcessIdentity
  readonly technology: Technology
}

/** A sandbox that is processes of this host below a monitor. */
export class MonitoredSandbox implements Sandbox {
  readonly record: SandboxRecord
  readonly agent: AgentClient
  readonly exited: Promise<SandboxExit>
  readonly #parts: MonitoredParts
  readonly #exited = settleLater<SandboxExit>()
  readonly #hurry = new AbortController()
  readonly #look: NodeJS.Timeout
  readonly #watch: SandboxWatch | undefined
  #shut: Promise<boolean> | null = null
  #stopped: Promise<SandboxExit> | null = null
  #over = false
  /** True once we end it ourselves: then its death is no news. */
  #ending = false

  constructor(parts: MonitoredParts) {
    this.#parts = parts
    this.record = parts.record
    this.agent = parts.link.agent
    this.exited = this.#exited.promise
    this.#watch = parts.technology.watch?.(parts.paths, () => this.#wentOn())
    this.#look = setInterval(() => this.#check(), LOOK_INTERVAL_MS)
    this.#look.unref()
    parts.watcher.on(parts.paths.exit, () => this.#check())
    parts.link.onSessionEnd(() => this.#check())
    this.#check()
  }

  get trouble(): Failure | null {
    return this.#watch?.trouble ?? null
  }

  counters(): Promise<LimitCounters> {
    const { cgroup, technology } = this.#parts
    const counting = technology.isMachine ? null : cgroup
    return new Promise((resolve) => resolve(counting?.counters() ?? { memory: 0, pids: 0 }))
  }

  shutDown(options: { readonly graceMs: number }): Promise<boolean> {
    this.#shut ??= this.#shutDown(options.graceMs)
    return this.#shut
  }

  stop(): Promise<SandboxExit> {
    // Whoever still waits for an end in order waits no longer.
    this.#hurry.abort()
    this.#stopped ??= this.#stop()
    return this.#stopped
  }

  async release(): Promise<void> {
    this.#over = true
    clearInterval(this.#look)
    this.#watch?.[Symbol.dispose]()
    this.#parts.watcher[Symbol.dispose]()
    await this.#parts.link.close()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }

  async #stop(): Promise<SandboxExit> {
    this.#ending ||= isAlive(this.#parts.init)
    const exit = this.#ending ? ({ reason: 'stopped', detail: 'stopped by Pyro' } as const) : await this.#explain()
    await this.release()
    await releaseSandbox(this.#parts)
    this.#exited.resolve(exit)
    return exit
  }

  /** Asks the agent; whether it obeys is seen from outside. */
  async #shutDown(graceMs: number): Promise<boolean> {
    const { init, technology } = this.#parts
    if (!isAlive(init)) return true
    this.#ending = true
    const asked = this.agent.shutdown({ graceMs }).then(
      () => true,
      (error: unknown) => isPyroError(error) && error.code === 'sandbox.unreachable' && !isAlive(init),
    )
    const given = await Promise.race([
      asked,
      aborted(this.#hurry.signal).then(() => false),
      sleep(graceMs + SHUTDOWN_EXTRA_MS, this.#hurry.signal).then(
        () => false,
        () => false,
      ),
    ])
    const extraMs = technology.flush === 'sync' ? LAST_FLUSH_MS : SHUTDOWN_EXTRA_MS
    const until = performance.now() + graceMs + extraMs
    while (given && isAlive(init) && performance.now() < until && !this.#hurry.signal.aborted)
      await sleep(EXIT_FILE_STEP_MS)
    return !isAlive(init)
  }

  #check(): void {
    if (this.#over) return
    if (isAlive(this.#parts.init)) {
      if (limitsEndIt(this.#parts.technology)) void this.#endOnLimit()
      if (this.agent.connected) this.#parts.link.clock?.keep()
      return
    }
    this.#over = true
    clearInterval(this.#look)
    this.#watch?.[Symbol.dispose]()
    this.#parts.link.expectNoMore('it has ended')
    if (!this.#ending) void this.#explain().then(this.#exited.resolve, this.#exited.reject)
  }

  /** Its machine stood still, and its clock with it. */
  #wentOn(): void {
    this.#parts.link.clock?.doubt()
    this.#check()
  }

  /** gVisor that lost one of its processes to the memory limit may go on half dead. */
  async #endOnLimit(): Promise<void> {
    const counters = this.#parts.cgroup?.counters()
    if (counters !== undefined && counters.memory > 0) await this.#parts.cgroup?.killAll()
  }

  async #explain(): Promise<SandboxExit> {
    // We may see the end before its monitor has written down how.
    await awaitExitFile(this.#parts.monitor, this.#parts.paths)
    return explainExit(this.#parts)
  }
}

const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })

export interface EndedParts {
  readonly paths: SandboxPaths
  readonly cgroup: SandboxCgroup | null
  readonly technology: Technology
}

/** Limits of memory and processes are walls of the whole sandbox, and how it was meant to end (gVisor, never a machine's own kernel). */
const limitsEndIt = ({ limits }: Pick<Technology, 'limits'>): boolean =>
  limits !== null && !limits.commandsApart && limits.entered === 'by-runtime'

/** Why a sandbox that nobody stopped is dead. */
export async function explainExit({ paths, cgroup, technology }: EndedParts): Promise<SandboxExit> {
  const exit = await readExit(paths)
  const log = await tailOf(paths.log, LAST_WORDS_BYTES)
  const how = exit === null ? 'how is not known' : howItEnded(exit, technology, log)
  const words = technology.lastWords?.(log) ?? null
  if (words !== null) return { reason: 'crashed', detail: words }
  if (limitsEndIt(technology) && cgroup !== null) {
    const counters = cgroup.counters()
    if (counters.memory > 0) return { reason: 'memory', detail: `the sandbox used up its memory (${how})` }
    if (counters.pids > 0) return { reason: 'pids', detail: `the sandbox used up its processes (${how})` }
  }
  return { reason: exit === null ? 'unknown' : 'crashed', detail: `the sandbox ended: ${how}` }
}

const howItEnded = (exit: MonitorExit, technology: Technology, log: string): string => {
  if (exit.signal !== null) return `${technology.mainProcess} was ended by SIG${exit.signal}`
  const orderly = exit.exitCode === 0 ? technology.orderlyEnd?.(log) : undefined
  return orderly ?? `${technology.mainProcess} ended with exit code ${exit.exitCode}`
}

export interface ReleasedParts {
  readonly paths: SandboxPaths
  readonly cgroup: SandboxCgroup | null
  readonly init: ProcessIdentity | null
  readonly monitor: ProcessIdentity | null
}

/** In this order: processes, monitor, control groups, files. The disk is the caller's, afterwards. */
export async function releaseSandbox(parts: ReleasedParts): Promise<void> {
  const { paths, cgroup, init, monitor } = parts
  if (init !== null) signalProcess(init, 'SIGKILL')
  await cgroup?.killAll()
  if (monitor !== null) await endMonitor(monitor, paths)
  await waitForEnd(init)
  await cgroup?.remove()
  await rm(paths.folder, { recursive: true, force: true })
}

async function endMonitor(monitor: ProcessIdentity, paths: SandboxPaths): Promise<void> {
  await awaitExitFile(monitor, paths)
  signalProcess(monitor, 'SIGKILL')
  await waitForEnd(monitor)
}

async function awaitExitFile(monitor: ProcessIdentity, paths: SandboxPaths): Promise<void> {
  const until = performance.now() + EXIT_FILE_WAIT_MS
  while (isAlive(monitor) && performance.now() < until && (await readExit(paths)) === null)
    await sleep(EXIT_FILE_STEP_MS)
}

async function waitForEnd(identity: ProcessIdentity | null): Promise<void> {
  const until = performance.now() + EXIT_FILE_WAIT_MS
  while (identity !== null && isAlive(identity) && performance.now() < until) await sleep(EXIT_FILE_STEP_MS)
}
