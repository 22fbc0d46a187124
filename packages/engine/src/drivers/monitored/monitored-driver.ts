import { chmod, chown, mkdir, rm, writeFile } from 'node:fs/promises'
import { devNull } from 'node:os'
import { basename, dirname } from 'node:path'
import { isPyroError, PyroError } from '@pyro/protocol'
import { GUEST_PROTOCOL, type AgentConfig, type LaunchSpec, type MonitorSpec } from '@pyro/protocol/guest'
import { AgentLink } from '../../agent/agent-link.ts'
import { ID_COUNT, type DiskStore } from '../../disk/disk-store.ts'
import type {
  Driver,
  DriverObject,
  KernelVersion,
  PrepareContext,
  Probe,
  PrunedThing,
  PruneOptions,
  Sandbox,
  SandboxExit,
  SandboxRecord,
  SandboxSpec,
  SandboxTrace,
  StartContext,
} from '../../driver/driver.ts'
import type { EngineConfig } from '../../lib/config.ts'
import { detectCgroups, type CgroupHost } from '../../process/cgroup-host.ts'
import { errnoOf, isAlive, type ProcessIdentity } from '../../process/identity.ts'
import { publishAgent } from './agent-binary.ts'
import { auditSandboxes } from './audit.ts'
import {
  findProcesses,
  FolderWatch,
  killMonitorTree,
  readStatus,
  rejectOnExit,
  startMonitor,
  tailOf,
  waitForStatus,
} from './monitor.ts'
import { explainExit, LAST_WORDS_BYTES, MonitoredSandbox, releaseSandbox } from './monitored-sandbox.ts'
import { IdRanges, type SandboxIds } from './id-ranges.ts'
import { cachedProbe } from './probe.ts'
import { SandboxCgroup, type CgroupLimits } from './sandbox-cgroup.ts'
import { INSIDE, sandboxesFolder, sandboxPaths, type SandboxPaths } from './sandbox-paths.ts'
import { killSandboxProcesses } from './sandbox-processes.ts'
import type { Bundle, Technology } from './technology.ts'

const RUNTIME_DELETE_TIMEOUT_MS = 10_000
/** Of what a sandbox wrote before it failed to start. */
const LOG_TAIL_BYTES = 2048
/** First of the descriptors that a runtime hands on. */
const FIRST_PASSED_FD = 3

type FailedStart = (paths: SandboxPaths) => Promise<void>

export interface MonitoredOptions {
  readonly config: EngineConfig
  readonly disks: DiskStore
  /** Where the agent binary is installed. */
  readonly agentBinary: string
}

/** Makes sandboxes that are processes of this host below a monitor. */
export class MonitoredDriver implements Driver {
  readonly id: string
  readonly isolation: Driver['isolation']
  readonly volumes: Driver['volumes']
  readonly disks: DiskStore
  readonly #technology: Technology
  readonly #config: EngineConfig
  readonly #installedAgent: string
  readonly #ranges: IdRanges
  #cgroups: Promise<CgroupHost | null> | null = null
  #agent: Promise<string> | null = null

  constructor(technology: Technology, options: MonitoredOptions) {
    this.id = technology.id
    this.isolation = technology.isolation
    this.volumes = technology.volumes
    this.disks = options.disks
    this.#technology = technology
    this.#config = options.config
    this.#installedAgent = options.agentBinary
    this.#ranges = new IdRanges({ idBase: options.config.idBase, agentBinary: () => this.#agentBinary() })
  }

  hostMemoryMib(memoryMib: number): number {
    return this.#technology.limits?.hostMemoryMib(memoryMib) ?? memoryMib
  }

  probe(): Promise<Probe> {
    return cachedProbe(this, this.#technology, {
      config: this.#config,
      agentPath: this.#installedAgent,
      hasCgroups: async () => this.#technology.limits === null || (await this.#cgroupHost()) !== null,
    })
  }

  accelerated(cx: PrepareContext): Promise<Probe> | null {
    return this.#technology.accelerated?.(this.#config.idBase, cx) ?? null
  }

  async prepare(spec: SandboxSpec, cx: PrepareContext): Promise<void> {
    cx.signal.throwIfAborted()
    const technology = this.#technology
    // Finding its ids looks at all other sandboxes.
    if (technology.prepare !== undefined) await technology.prepare(spec, (await this.#idsOf(spec)).base, cx)
  }

  /** Once more, within the same time, when it may have failed for what it started from. */
  async start(spec: SandboxSpec, cx: StartContext): Promise<Sandbox> {
    const until = performance.now() + cx.deadlineMs
    let isWorthMore = false
    try {
      return await this.#startOnce(spec, cx, async (paths) => {
        isWorthMore = (await this.#technology.startFailed?.(paths)) ?? false
      })
    } catch (error) {
      const deadlineMs = Math.floor(until - performance.now())
      if (!isWorthMore || cx.signal.aborted || deadlineMs <= 0) throw error
      return await this.#startOnce(spec, { ...cx, deadlineMs })
    }
  }

  async #startOnce(spec: SandboxSpec, cx: StartContext, failed?: FailedStart): Promise<Sandbox> {
    cx.signal.throwIfAborted()
    const signal = AbortSignal.any([cx.signal, AbortSignal.timeout(cx.deadlineMs)])
    const paths = sandboxPaths(this.#config.runtimeDir, spec.sandboxId)
    const cgroup = await this.#cgroup(spec.sandboxId)
    const ids = await this.#idsOf(spec)
    await using undo = new AsyncDisposableStack()
    undo.defer(async () => {
      await killMonitorTree(paths)
      await releaseSandbox({ paths, cgroup, init: null, monitor: null })
    })
    let isMonitored = false
    try {
      await Promise.all([this.#makeFolders(paths, ids), cgroup?.create(this.#hostLimits(spec), ids.base)])
      const link = undo.use(await this.#listen(paths, spec, { ids, bootId: null }))
      const watcher = undo.use(new FolderWatch(paths.folder))
      const agentBinary = await this.#agentBinary()
      const agentConfig = this.#agentConfig(spec, cgroup)
      const bundle = { paths, cgroup, agentBinary, ids, agentConfig }
      await Promise.all([
        this.#technology.writeBundle(spec, bundle, signal),
        this.#configOnStdin ? writeFile(paths.agentConfig, JSON.stringify(agentConfig), { mode: 0o600 }) : null,
      ])
      signal.throwIfAborted()
      const monitorSpec = await this.#monitorSpec(spec, { ...bundle, deadlineMs: cx.deadlineMs })
      const monitor = await startMonitor(agentBinary, paths, monitorSpec)
      isMonitored = true
      const status = await waitForStatus(monitor, paths, watcher, signal)
      const ended = rejectOnExit(paths, watcher)
      await this.#begin(paths, signal, ended)
      await Promise.race([link.session({ signal, timeoutMs: cx.deadlineMs }), ended])
      await (link.clock === null ? link.agent.status({ signal }) : link.clock.makeRight({ signal }))
      // The token has been proved; from here on only the agent holds it.
      await rm(paths.agentConfig, { force: true })
      const sandbox = this.#sandbox(spec, { paths, cgroup, link, watcher }, status)
      undo.move()
      return sandbox
    } catch (error) {
      // One whose monitor was killed says nothing of what it started from.
      if (isMonitored && !cx.signal.aborted && (await readStatus(paths)) !== null) await failed?.(paths)
      if (cx.signal.aborted || isPyroError(error)) throw error
      const what = signal.aborted ? `did not start within ${cx.deadlineMs} ms` : 'did not start'
      const why = await this.#whyNot(paths)
      throw new PyroError('workspace.start-failed', `sandbox ${spec.sandboxId} ${what}${why}`, { cause: error })
    }
  }

  async adopt(record: SandboxRecord, cx: StartContext): Promise<Sandbox> {
    cx.signal.throwIfAborted()
    const { spec } = record
    const paths = sandboxPaths(this.#config.runtimeDir, spec.sandboxId)
    const found = await findProcesses(record, paths)
    if (found === null) throw new PyroError('sandbox.unreachable', `sandbox ${spec.sandboxId} is dead`)
    await using undo = new AsyncDisposableStack()
    const owner = { ids: await this.#idsOf(spec), bootId: textOrNull(record.details['bootId']) }
    const link = undo.use(await this.#listen(paths, spec, owner))
    const watcher = undo.use(new FolderWatch(paths.folder))
    const cgroup = await this.#cgroup(spec.sandboxId)
    try {
      await link.session({ signal: cx.signal, timeoutMs: cx.deadlineMs })
    } catch (error) {
      // It lives: what does not answer now may do so later, and is nothing to kill on a guess.
      if (!isPyroError(error) || error.code !== 'sandbox.unreachable' || !isAlive(found)) throw error
    }
    const sandbox = this.#sandbox(spec, { paths, cgroup, link, watcher }, found)
    undo.move()
    return sandbox
  }

  async reclaim(record: SandboxTrace): Promise<SandboxExit> {
    const { sandboxId } = record.spec
    const paths = sandboxPaths(this.#config.runtimeDir, sandboxId)
    const cgroup = await this.#cgroup(sandboxId)
    const found = await findProcesses(record, paths)
    const exit: SandboxExit =
      found === null
        ? await explainExit({ paths, cgroup, technology: this.#technology })
        : { reason: 'stopped', detail: 'reclaimed by Pyro' }
    await killMonitorTree(paths)
    if (cgroup === null) await killSandboxProcesses(this.#config.runtimeDir, sandboxId)
    await releaseSandbox({ paths, cgroup, init: found, monitor: null })
    return exit
  }

  async prune(options: PruneOptions): Promise<readonly PrunedThing[]> {
    return (await this.#technology.prune?.(options)) ?? []
  }

  async kernel(): Promise<KernelVersion | null> {
    return (await this.#technology.kernel?.()) ?? null
  }

  async audit(): Promise<readonly DriverObject[]> {
    return auditSandboxes(this.#config, await this.#cgroupHost())
  }

  async #whyNot(paths: SandboxPaths): Promise<string> {
    const words = this.#technology.lastWords?.(await tailOf(paths.log, LAST_WORDS_BYTES)) ?? null
    if (words !== null) return `: ${words}`
    const said = await tailOf(paths.log, LOG_TAIL_BYTES)
    return said === '' ? '' : `; it said: ${said}`
  }

  #sandbox(
    spec: SandboxSpec,
    parts: { paths: SandboxPaths; cgroup: SandboxCgroup | null; link: AgentLink; watcher: FolderWatch },
    found: ProcessIdentity & { readonly monitorPid: number; readonly monitorStartTime: string },
  ): Sandbox {
    const { pid, startTime, monitorPid, monitorStartTime } = found
    const details = { pid, startTime, monitorPid, monitorStartTime, bootId: parts.link.bootId }
    return new MonitoredSandbox({
      ...parts,
      record: { driver: this.id, spec, details },
      init: { pid, startTime },
      monitor: { pid: monitorPid, startTime: monitorStartTime },
      technology: this.#technology,
    })
  }

  async #idsOf(spec: SandboxSpec): Promise<SandboxIds> {
    const { ids } = this.#technology
    if (ids === 'shared') return { base: this.#config.idBase, diskBase: null }
    if (ids === 'alone') return this.#ranges.alone(spec.sandboxId)
    return this.#ranges.of(spec.sandboxId, spec.volume.path)
  }

  #listen(
    paths: SandboxPaths,
    spec: SandboxSpec,
    expected: { readonly ids: SandboxIds; readonly bootId: string | null },
  ): Promise<AgentLink> {
    return AgentLink.listen({
      socketPath: paths.socket,
      stagingPath: paths.stagingSocket,
      owner: expected.ids.base,
      sandboxId: spec.sandboxId,
      token: spec.token,
      bootId: expected.bootId,
      ownClock: this.#technology.isMachine,
    })
  }

  /** Every folder on the way to the channel can be passed by the sandbox's root, and listed by nobody but us. */
  async #makeFolders(paths: SandboxPaths, ids: SandboxIds): Promise<void> {
    const top = sandboxesFolder(this.#config.runtimeDir)
    for (const folder of [dirname(this.#config.runtimeDir), this.#config.runtimeDir, top]) await makePassable(folder)
    try {
      await mkdir(paths.folder, { mode: 0o710 })
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') throw error
      throw new PyroError('internal', `${paths.folder} exists already: a sandbox of this name was not released`)
    }
    await chown(paths.folder, 0, ids.base)
    await mkdir(paths.channel, { mode: 0o710 })
    await chown(paths.channel, 0, ids.base)
    if (ids.diskBase === null) return
    await mkdir(paths.root, { mode: 0o700 })
    await writeFile(paths.agent, '', { mode: 0o755 })
  }

  #agentConfig(spec: SandboxSpec, cgroup: SandboxCgroup | null): AgentConfig {
    return {
      protocol: GUEST_PROTOCOL,
      sandboxId: spec.sandboxId,
      workspaceId: spec.workspaceId,
      generation: spec.generation,
      token: spec.token,
      socket: INSIDE.socket,
      hostname: spec.hostname,
      cgroup: commandCgroup(cgroup),
      flush: this.#technology.flush,
      maxCommands: this.#config.limits.runningCommands,
    }
  }

  async #monitorSpec(spec: SandboxSpec, parts: Bundle & { readonly deadlineMs: number }): Promise<MonitorSpec> {
    const { paths, cgroup, deadlineMs } = parts
    const directory = cgroup?.userDirectory ?? null
    const entered = this.#technology.limits?.entered === 'by-monitor' ? cgroup?.whole : undefined
    return {
      ...(await this.#technology.runtime(paths, parts.agentBinary)),
      id: spec.sandboxId,
      bundle: paths.folder,
      runThrough: launchWith(spec, parts),
      stdinFile: this.#configOnStdin ? paths.agentConfig : devNull,
      logFile: paths.log,
      logLimitBytes: this.#technology.logLimitBytes,
      passFiles:
        directory === null
          ? (cgroup?.userTasks ?? []).map((path) => ({ path, open: 'write' as const }))
          : [{ path: directory, open: 'directory' }],
      enterTasks: [...(entered?.tasks ?? [])],
      enterDirectory: entered?.directory ?? null,
      counterFiles: [...(cgroup?.counterFiles ?? [])],
      startTimeoutMs: deadlineMs,
      deleteTimeoutMs: RUNTIME_DELETE_TIMEOUT_MS,
    }
  }

  /** A sandbox that ends meanwhile is not waited for. */
  async #begin(paths: SandboxPaths, signal: AbortSignal, ended: Promise<never>): Promise<void> {
    const over = new AbortController()
    try {
      await Promise.race([this.#technology.begin?.(paths, AbortSignal.any([signal, over.signal])), ended])
    } finally {
      over.abort()
    }
  }

  get #configOnStdin(): boolean {
    return this.#technology.configBy === 'stdin'
  }

  #hostLimits(spec: SandboxSpec): CgroupLimits {
    return { ...spec, memoryMib: this.hostMemoryMib(spec.memoryMib) }
  }

  async #cgroup(sandboxId: string): Promise<SandboxCgroup | null> {
    if (this.#technology.limits === null) return null
    const host = await this.#cgroupHost()
    if (host === null)
      throw new PyroError('driver.unavailable', `${this.id}: this host has no memory, pids and cpu control groups`)
    const { commandsApart } = this.#technology.limits
    return new SandboxCgroup(host, { homeName: basename(this.#config.runtimeDir), sandboxId, commandsApart })
  }

  #cgroupHost(): Promise<CgroupHost | null> {
    this.#cgroups ??= detectCgroups()
    return this.#cgroups
  }

  #agentBinary(): Promise<string> {
    this.#agent ??= publishAgent(this.#installedAgent, this.#config).catch((error: unknown) => {
      this.#agent = null
      throw error
    })
    return this.#agent
  }
}

/** With ids of its own, a sandbox is made through the role that maps them. */
function launchWith(spec: SandboxSpec, { paths, ids, agentBinary }: Bundle): string[] {
  if (ids.diskBase === null) return []
  const launch: LaunchSpec = {
    volume: spec.volume.path,
    root: paths.root,
    agent: agentBinary,
    agentFile: paths.agent,
    userNamespace: paths.userNamespace,
    diskBase: ids.diskBase,
    base: ids.base,
    count: ID_COUNT,
  }
  return [agentBinary, 'launch', JSON.stringify(launch)]
}

/** The descriptors that the runtime hands on, in the order of `passFiles`. */
function commandCgroup(cgroup: SandboxCgroup | null): AgentConfig['cgroup'] {
  if (cgroup === null) return { mode: 'none' }
  if (cgroup.userDirectory !== null) return { mode: 'v2', directoryFd: FIRST_PASSED_FD }
  const tasksFds = cgroup.userTasks.map((_, index) => FIRST_PASSED_FD + index)
  return tasksFds.length === 0 ? { mode: 'none' } : { mode: 'v1', tasksFds }
}

async function makePassable(folder: string): Promise<void> {
  if ((await mkdir(folder, { recursive: true, mode: 0o711 })) !== undefined) await chmod(folder, 0o711)
}

const textOrNull = (value: unknown): string | null => (typeof value === 'string' && value !== '' ? value : null)
