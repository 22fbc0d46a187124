import type { Failure, Isolation, Progress } from '@pyro/protocol'
import type { AgentClient } from '../agent/agent-client.ts'
import type { DiskStore, Volume } from '../disk/disk-store.ts'

/**
 * The seam to isolation technologies. A driver makes sandboxes; a sandbox carries one workspace for one generation.
 *
 * Life of a sandbox: `start` returns when the agent inside proved its token and answered a first call. From then on `record` is all that
 * a later engine needs: `adopt` finds the living sandbox again, `reclaim` releases whatever is left of a dead or half-made one.
 * `exited` settles when the sandbox ended, for whatever reason, also when nobody stopped it.
 *
 * Names of everything a driver makes derive from `sandboxId` (`<workspace>-g<generation>`), so `reclaim` works from a record
 * that was written before anything was made.
 */
export interface Driver {
  /** What users type after `--driver`. */
  readonly id: string
  readonly isolation: Isolation | 'none'
  /** What a volume of its sandboxes holds: the root filesystem as a folder, or `DISK_FILE` with an ext4 filesystem. */
  readonly volumes: 'trees' | 'images'
  readonly disks: DiskStore
  /** Memory of the host that a sandbox of this size may take, with what runs it. */
  hostMemoryMib(memoryMib: number): number
  /** Never throws; bounded in time; tries for real. */
  probe(): Promise<Probe>
  /**
   * Whether its sandboxes run on the processor itself; not: it is imitated, which is correct and slow. Null for a driver that never
   * imitates one. Tries for real, once per boot of the host.
   */
  accelerated(cx: PrepareContext): Promise<Probe> | null
  /** Fetches and makes what a start of this sandbox needs and this host does not have yet. It may take long, and is not the start's time. */
  prepare(spec: SandboxSpec, cx: PrepareContext): Promise<void>
  start(spec: SandboxSpec, cx: StartContext): Promise<Sandbox>
  /**
   * Finds a living sandbox again. Rejects with `sandbox.unreachable` when it is dead. One that lives and does not answer in time
   * (frozen, or a host under load) is found all the same: its agent dials when it can, until then calls to it fail.
   */
  adopt(record: SandboxRecord, cx: StartContext): Promise<Sandbox>
  /** Kills and releases all that carries this record's name. Idempotent; works when everything is dead or frozen. Leaves the disk. */
  reclaim(record: SandboxTrace): Promise<SandboxExit>
  /** Frees the space of what was fetched and made to start sandboxes: what no start will use again, with `all` everything. */
  prune(options: PruneOptions): Promise<readonly PrunedThing[]>
  /** The kernel that its sandboxes start with; null: that of the host, or none was needed yet. Fetches nothing. */
  kernel(): Promise<KernelVersion | null>
  /** Everything on this host that looks made by this driver for this home, for the leak audit. */
  audit(): Promise<readonly DriverObject[]>
}

export interface KernelVersion {
  readonly release: string
  /** Of its image. */
  readonly sha256: string
}

export interface PruneOptions {
  readonly all: boolean
  /** There are workspaces of its isolation. They start without a network: what cannot be made without one stays. */
  readonly inUse: boolean
}

export interface PrunedThing {
  /** For people. */
  readonly name: string
  readonly bytes: number
}

export interface Probe {
  readonly ok: boolean
  /** Version and what was tried. */
  readonly detail: string
  /** Exact command that provides what is missing. */
  readonly fix: string | null
}

export interface SandboxSpec {
  /** `<workspace>-g<generation>`: lower-case letters, digits and dashes. */
  readonly sandboxId: string
  readonly workspaceId: string
  readonly generation: number
  /** The disk that it runs on. */
  readonly volume: Volume
  /** UUID of the filesystem that images hold, labelled with the workspace (`labelOf`); null where volumes are trees. */
  readonly filesystem: string | null
  /**
   * Not empty: an inspector, only where volumes are images. It runs nothing of theirs, and shows these read-only as `/disks/0` and so
   * on; one that is writable may have its journal replayed.
   */
  readonly inspects: readonly Volume[]
  readonly hostname: string
  readonly vcpus: number
  readonly memoryMib: number
  /** Processes and threads in the sandbox. */
  readonly pidsMax: number
  /** 64 hex, drawn for this sandbox. */
  readonly token: string
}

export interface PrepareContext {
  readonly signal: AbortSignal
  readonly onProgress?: ((progress: Progress) => void) | undefined
}

export interface StartContext {
  /** Aborting releases all that was made; the promise then rejects with the reason. */
  readonly signal: AbortSignal
  readonly deadlineMs: number
}

/** JSON. All that `adopt` and `reclaim` may rely on. `driver` and `sandboxId` and `spec` are there from the start. */
export interface SandboxRecord {
  readonly driver: string
  readonly spec: SandboxSpec
  /** What the driver adds once it knows: pids with start times and the like. */
  readonly details: Readonly<Record<string, string | number | null>>
}

/** What `reclaim` needs: the name alone will do when the rest of the record is lost. */
export interface SandboxTrace extends Pick<SandboxRecord, 'driver' | 'details'> {
  readonly spec: Pick<SandboxSpec, 'sandboxId'>
}

export interface LimitCounters {
  /** Kills for lack of memory so far. */
  readonly memory: number
  /** Refused forks so far. */
  readonly pids: number
}

export interface SandboxExit {
  /** `stopped`: we did it. `memory`, `pids`: a limit ended the sandbox. `crashed`: ended by itself or from outside. */
  readonly reason: 'stopped' | 'memory' | 'pids' | 'crashed' | 'unknown'
  /** For people: what is known of the end. */
  readonly detail: string
}

export interface Sandbox extends AsyncDisposable {
  readonly record: SandboxRecord
  readonly agent: AgentClient
  readonly exited: Promise<SandboxExit>
  /** What keeps it from going on although it lives; null: nothing that is known. */
  readonly trouble: Failure | null
  /** Now, from outside of the sandbox. */
  counters(): Promise<LimitCounters>
  /**
   * Asks what is inside to end, and to write out what it holds; nobody is told of this end by `exited`. False: it lives on, because it
   * does not answer or is not done in time. Nothing is forced, and `stop` follows in any case. Idempotent.
   */
  shutDown(options: { readonly graceMs: number }): Promise<boolean>
  /** By force, if it lives; idempotent; always ends; releases everything but the disk. */
  stop(): Promise<SandboxExit>
  /** Lets go without stopping: the sandbox lives on for a later engine. Closes sockets and watchers of this process. */
  release(): Promise<void>
}

export interface DriverObject {
  readonly kind: 'process' | 'mount' | 'cgroup' | 'socket' | 'folder'
  /** Stable name of the thing: a path, of a process its pid and start time. */
  readonly id: string
  /** The sandbox it belongs to by its name, or null. */
  readonly sandboxId: string | null
  readonly detail: string
}
