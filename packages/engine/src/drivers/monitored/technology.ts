import type { AgentConfig, MonitorSpec } from '@pyro/protocol/guest'
import type {
  KernelVersion,
  PrepareContext,
  Probe,
  PrunedThing,
  PruneOptions,
  Sandbox,
  SandboxSpec,
} from '../../driver/driver.ts'
import type { Isolation } from '@pyro/protocol'
import type { SandboxIds } from './id-ranges.ts'
import type { SandboxCgroup } from './sandbox-cgroup.ts'
import type { SandboxPaths } from './sandbox-paths.ts'

/** What differs between the drivers whose sandboxes are processes of this host below a monitor. */
export interface Technology {
  readonly id: string
  readonly isolation: Isolation | 'none'
  /** As `Driver.accelerated`; absent: nothing is ever emulated. */
  accelerated?(owner: number, cx: PrepareContext): Promise<Probe>
  /** Null: no limits, so no control groups. */
  readonly limits: {
    /** User commands get a group of their own, so that hitting a limit ends a command and not the sandbox. */
    readonly commandsApart: boolean
    /** As `Driver.hostMemoryMib`. */
    hostMemoryMib(memoryMib: number): number
    /** Who puts the sandbox into its control group: the runtime, or the monitor, before it calls one. */
    readonly entered: 'by-runtime' | 'by-monitor'
  } | null
  /** As `Driver.volumes`. */
  readonly volumes: 'trees' | 'images'
  /**
   * Ids on the host. `mapped`: programs inside use the host's kernel, so each sandbox gets a range of its own and sees its disk
   * through it. `alone`: what stands for it on the host runs as a user of its own. `shared`: those of all disks.
   */
  readonly ids: 'mapped' | 'alone' | 'shared'
  /** The newest that is kept of what the guest can write there for ever; null: it cannot. */
  readonly logLimitBytes: number | null
  /** How the agent gets its config: on its standard input, or on a disk of the bundle. */
  readonly configBy: 'stdin' | 'disk'
  /** What `/v1/flush` does inside. */
  readonly flush: 'sync' | 'none'
  /** Null when the runtime is there; else what is missing. Starts nothing long. */
  missing(): Promise<Probe | null>
  /** Name and version, for people; the probe's verdict holds as long as it stays the same. */
  version(): Promise<string>
  /** As `Driver.prepare`; `owner` is the user of the host that the sandbox's processes run as. */
  prepare?(spec: SandboxSpec, owner: number, cx: PrepareContext): Promise<void>
  /** As `Driver.prune`. */
  prune?(options: PruneOptions): Promise<readonly PrunedThing[]>
  /** As `Driver.kernel`. */
  kernel?(): Promise<KernelVersion | null>
  /** Writes what the runtime reads. */
  writeBundle(spec: SandboxSpec, bundle: Bundle, signal: AbortSignal): Promise<void>
  /** The guest's clock is not the host's, and stands wherever it was; what its commands hit its own kernel counts. */
  readonly isMachine: boolean
  /** What the monitor waits for, for people. */
  readonly mainProcess: string
  /** What it means that it ended with exit code 0, from the end of its log; absent: no more than that. */
  orderlyEnd?(log: string): string
  /** Why a guest ended, from the end of what it wrote; null: it does not say. What it wrote is a guest's word, for people. */
  lastWords?(log: string): string | null
  /** Helps a sandbox along while it runs. `wentOn` is called when it had stood still. */
  watch?(paths: SandboxPaths, wentOn: () => void): SandboxWatch
  /** What is left to do once its process runs. */
  begin?(paths: SandboxPaths, signal: AbortSignal): Promise<void>
  /**
   * Told that a start failed that nobody cancelled, while its bundle is there. True: what it started from was thrown away, and another
   * start does without it or makes it anew.
   */
  startFailed?(paths: SandboxPaths): Promise<boolean>
  /** How the monitor calls the runtime. */
  runtime(paths: SandboxPaths, agentBinary: string): Promise<Pick<MonitorSpec, 'runtime' | 'runtimeLogFile'>>
}

export interface SandboxWatch extends Disposable, Pick<Sandbox, 'trouble'> {}

export interface Bundle {
  readonly paths: SandboxPaths
  readonly cgroup: SandboxCgroup | null
  /** Host path of the agent binary, readable for the sandbox's root. */
  readonly agentBinary: string
  readonly ids: SandboxIds
  readonly agentConfig: AgentConfig
}
