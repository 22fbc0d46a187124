import { z } from 'zod'
import { limitHit } from './command.ts'
import { bytes, durationMs, failure, labels, time } from './common.ts'

export const PHASES = [
  'creating',
  'starting',
  'running',
  'stopping',
  'stopped',
  'resetting',
  'deleting',
  'failed',
] as const
export const phase = z.enum(PHASES)
export type Phase = z.infer<typeof phase>

/** Names of drivers that a user can ask for. */
export const driverName = z.enum(['firecracker', 'qemu', 'runsc', 'runc'])
export const isolation = z.enum(['microvm', 'gvisor', 'container'])
export type Isolation = z.infer<typeof isolation>

export const commandSummary = z.object({
  commandId: z.string(),
  command: z.union([z.string(), z.array(z.string())]),
  exitCode: z.int().nullable(),
  /** Which limit of the workspace it failed at. */
  limit: limitHit.nullable(),
  running: z.boolean(),
})

export const seed = z.object({
  mode: z.enum(['none', 'path', 'git']),
  /** What the client named, for display; the engine never opens it. */
  source: z.string().nullable(),
  files: z.int(),
  bytes: bytes,
  modified: z.int().nullable(),
  untracked: z.int().nullable(),
  ignored: z.int().nullable(),
})
export type Seed = z.infer<typeof seed>

export const workspaceRecord = z.object({
  workspaceId: z.string(),
  name: z.string(),
  labels: labels,
  environment: z.object({ name: z.string(), digest: z.string() }),
  driver: z.string(),
  isolation: isolation.or(z.literal('none')),
  emulated: z.boolean(),
  phase: phase,
  /** Number of the sandbox that carries the workspace; the first is 1. */
  generation: z.int(),
  vcpus: z.number(),
  memoryMib: z.int(),
  diskMib: z.int(),
  limits: z.object({ disk: z.enum(['enforced', 'none']) }),
  network: z.enum(['off']),
  env: z.record(z.string(), z.string()),
  seed: seed,
  createdAt: time,
  lastActivityAt: time,
  expiresAt: time.nullable(),
  resetCount: z.int(),
  lastResetAt: time.nullable(),
  lastResetSnapshot: z.string().nullable(),
  /** Commands since the last reset. */
  commandCount: z.int(),
  lastCommand: commandSummary.nullable(),
  snapshots: z.array(z.string()),
  /** Bytes of the disk that this workspace alone holds, where the store knows. */
  diskBytes: bytes.nullable(),
  failure: failure.nullable(),
})
export type WorkspaceRecord = z.infer<typeof workspaceRecord>

export const createdWorkspace = workspaceRecord.extend({
  /** False when `ifAbsent` found one. */
  created: z.boolean(),
  durationMs: durationMs,
})
export type CreatedWorkspace = z.infer<typeof createdWorkspace>

export const snapshotRecord = z.object({
  name: z.string(),
  kind: z.enum(['baseline', 'named']),
  createdAt: time,
  /** Bytes that only this snapshot holds, where the store knows. */
  ownedBytes: bytes.nullable(),
  /** True for the snapshot the present disk was cloned from. */
  current: z.boolean(),
})
export type SnapshotRecord = z.infer<typeof snapshotRecord>

export const resetResult = z.object({
  workspaceId: z.string(),
  name: z.string(),
  snapshot: z.string(),
  generation: z.int(),
  durationMs: durationMs,
  savedAs: z.string().nullable(),
  /** True when the reset also brought a stopped or failed workspace back to running. */
  started: z.boolean(),
  cleared: z.object({
    commands: z.int(),
    runningCommands: z.array(z.object({ commandId: z.string(), command: z.string() })),
    /** Paths that differed from the target, where that is known without a walk. */
    changedPaths: z.int().nullable(),
  }),
})
export type ResetResult = z.infer<typeof resetResult>

export const deleteResult = z.object({
  deleted: z.array(z.object({ workspaceId: z.string(), name: z.string(), snapshots: z.int() })),
  errors: z.array(
    z.object({ workspace: z.string(), code: z.string(), message: z.string(), hint: z.string().nullable() }),
  ),
})
