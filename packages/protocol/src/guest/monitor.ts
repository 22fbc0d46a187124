import { z } from 'zod'

/** What `pyro-agent monitor FILE` reads from FILE. Written by the engine, not hostile; unknown fields are refused. */
export const monitorSpec = z.strictObject({
  /** The runtime with its global options: `["runc", "--root", "…", "--log", "…"]`. */
  runtime: z.array(z.string()).min(1),
  /** Container id. */
  id: z.string(),
  bundle: z.string(),
  /** Program and arguments that end by becoming the runtime: `run`, and no other call, goes through it. Empty: none. */
  runThrough: z.array(z.string()),
  /** The agent's config; becomes stdin of the sandbox. Removed by the engine when the sandbox runs. */
  stdinFile: z.string(),
  /** stdout and stderr of runtime and sandbox; appended to, made 0600 when missing. */
  logFile: z.string(),
  /** The newest that is kept of it; then the monitor reads what is said. Null: all of it. */
  logLimitBytes: z.int().positive().nullable(),
  /** The runtime's own log, when `runtime` names one: its tail goes into the message of a failure. */
  runtimeLogFile: z.string().nullable(),
  /** Opened on the host and handed in as descriptors 3, 4, … (`--preserve-fds`; runc only). */
  passFiles: z.array(z.strictObject({ path: z.string(), open: z.enum(['write', 'directory']) })).max(16),
  /**
   * cgroup v1 `tasks` files which the runtime is started in, for a runtime that does not place its processes itself
   * (`runsc --ignore-cgroups`).
   */
  enterTasks: z.array(z.string()).max(16),
  /** The same on cgroup v2: the directory. */
  enterDirectory: z.string().nullable(),
  /** Read when the sandbox has ended, each at most 64 KiB. */
  counterFiles: z.array(z.string()).max(32),
  startTimeoutMs: z.int().positive(),
  /** For `delete --force` after a failed start. */
  deleteTimeoutMs: z.int().positive(),
})
export type MonitorSpec = z.infer<typeof monitorSpec>

/** What `pyro-agent launch SPEC RUNTIME ARGUMENT…` is told, as JSON. */
export const launchSpec = z.strictObject({
  /** The tree, and the folder at which it is mounted for the runtime. */
  volume: z.string(),
  root: z.string(),
  /** The agent binary, and the file at which it is mounted for the runtime: folders above it may be closed to the sandbox. */
  agent: z.string(),
  agentFile: z.string(),
  /** Where a link to the new user namespace is made: the path that stands in the bundle. */
  userNamespace: z.string(),
  /** First id of the tree's owners on disk, and of the sandbox on the host. */
  diskBase: z.int().positive(),
  base: z.int().positive(),
  /** Ids of both ranges. */
  count: z.int().positive(),
})
export type LaunchSpec = z.infer<typeof launchSpec>

/** `status.json` beside FILE. */
export const monitorStatus = z.discriminatedUnion('state', [
  z.strictObject({
    state: z.literal('running'),
    /** Init of the container as the host counts it; on gVisor the sentry. */
    pid: z.int().positive(),
    /** Clock ticks since boot (field 22 of /proc/PID/stat): with the pid the identity of the process. */
    startTime: z.string(),
    monitorPid: z.int().positive(),
    monitorStartTime: z.string(),
    /** RFC 3339. */
    at: z.string(),
  }),
  z.strictObject({
    state: z.literal('failed'),
    stage: z.enum(['spec', 'files', 'start']),
    /** What failed, with the tail of the runtime's log. */
    message: z.string().max(8192),
    /** Whether `delete --force` succeeded (or nothing was made). */
    cleaned: z.boolean(),
    at: z.string(),
  }),
])
export type MonitorStatus = z.infer<typeof monitorStatus>

/** `exit.json` beside FILE. */
export const monitorExit = z.strictObject({
  /** Null when a signal ended it. */
  exitCode: z.int().min(0).max(255).nullable(),
  /** Name without SIG. */
  signal: z.string().max(16).nullable(),
  /** By path; null where the file could not be read. */
  counters: z.record(z.string(), z.string().nullable()),
  at: z.string(),
})
export type MonitorExit = z.infer<typeof monitorExit>
