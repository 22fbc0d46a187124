import type { MonitorSpec } from '@pyro/protocol/guest'
import type { Probe, SandboxSpec } from '../../driver/driver.ts'
import type { Isolation } from '@pyro/protocol'
import type { SandboxIds } from './id-ranges.ts'
import type { SandboxCgroup } from './sandbox-cgroup.ts'
import type { SandboxPaths } from './sandbox-paths.ts'

/** What differs between the drivers whose sandboxes are processes of this host below a monitor. */
export interface Technology {
  readonly id: string
  readonly isolation: Isolation | 'none'
  /** Null: no limits, so no control groups. */
  readonly limits: {
    /** User commands get a group of their own, so that hitting a limit ends a command and not the sandbox. */
    readonly commandsApart: boolean
  } | null
  /** Programs inside use the host's kernel by their own ids: each sandbox gets a range of its own. */
  readonly ownIds: boolean
  /** What `/v1/flush` does inside. */
  readonly flush: 'sync' | 'none'
  /** Null when the runtime is there; else what is missing. Starts nothing long. */
  missing(): Promise<Probe | null>
  /** Name and version, for people; the probe's verdict holds as long as it stays the same. */
  version(): Promise<string>
  /** Writes what the runtime reads. */
  writeBundle(spec: SandboxSpec, bundle: Bundle): Promise<void>
  /** How the monitor calls the runtime. */
  runtime(paths: SandboxPaths): Promise<Pick<MonitorSpec, 'runtime' | 'createArgs' | 'runtimeLogFile'>>
}

export interface Bundle {
  readonly paths: SandboxPaths
  readonly cgroup: SandboxCgroup | null
  /** Host path of the agent binary, readable for the sandbox's root. */
  readonly agentBinary: string
  readonly ids: SandboxIds
}
