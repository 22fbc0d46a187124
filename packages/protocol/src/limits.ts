/** Every limit of the contract, in one place. Tests lower them through the engine's configuration. */
const MIB = 1024 * 1024

export const LIMITS = {
  /** Named snapshots of one workspace. */
  snapshotsPerWorkspace: 256,
  labelsPerWorkspace: 32,
  /** Bytes of one label key or value. */
  labelBytes: 256,
  /** Workspaces in one home. */
  workspaces: 1000,
  /** Bytes of one `file write`. */
  fileWriteBytes: 16 * MIB,
  /** Bytes one `file read` can return. */
  fileReadBytes: 16 * MIB,
  /** Entries of an archive that goes in (seed, push, import). */
  archiveEntries: 2_000_000,
  /** Unpacked bytes of an archive that goes in. */
  archiveBytes: 16 * 1024 * MIB,
  /** Bytes of one path in an archive. */
  archivePathBytes: 4096,
  /** Bytes of the patch of one diff; its entries are always complete. */
  diffPatchBytes: 32 * MIB,
  /** A binary file above this is in `entries` only. */
  diffBinaryBytes: 8 * MIB,
  /** Commands kept in the history of one workspace since its last reset. */
  historyCommands: 10_000,
  /** Bytes of output kept of one command, in order of arrival. */
  commandLogBytes: 64 * MIB,
  /** Inline output of one command, per stream: this much from its start … */
  inlineHeadBytes: 64 * 1024,
  /** … and this much from its end. */
  inlineTailBytes: 192 * 1024,
  /** Processes and threads in one sandbox, however little or much memory it has. */
  sandboxProcessesLeast: 256,
  sandboxProcessesMost: 4096,
  /** Between the two: for each MiB of memory. A fork bomb meets this limit before it uses up the memory. */
  processesPerMemoryMib: 1,
  /** Commands running at one time in one workspace. */
  runningCommands: 512,
  /** Bytes of a JSON request. */
  requestBytes: 4 * MIB,
  /** Bytes of argv and environment of one command. */
  argvBytes: 1 * MIB,
  /** How long an operation waits for a passing phase. */
  phaseWaitMs: 60_000,
  /** From TERM to KILL for `command kill`. */
  killGraceMs: 5_000,
} as const

export type Limits = { readonly [K in keyof typeof LIMITS]: number }
