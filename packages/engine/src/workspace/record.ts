import type { SnapshotRecord, WorkspaceRecord } from '@pyro/protocol'
import { nowText } from '../lib/wait.ts'
import type { CommandRow } from '../store/commands.ts'
import type { SnapshotRow } from '../store/snapshots.ts'
import type { Store } from '../store/store.ts'
import type { WorkspaceRow } from '../store/workspaces.ts'

/** The record of the contract. */
export const workspaceRecord = (
  store: Store,
  row: WorkspaceRow,
  lastCommand: CommandRow | null,
  diskBytes: number | null,
): WorkspaceRecord => ({
  workspaceId: row.id,
  name: row.name,
  labels: { ...row.labels },
  environment: { name: row.environment.name, digest: row.environment.digest },
  driver: row.driver,
  isolation: row.isolation,
  emulated: row.emulated,
  phase: row.phase,
  generation: row.generation,
  vcpus: row.vcpus,
  memoryMib: row.memoryMib,
  diskMib: row.diskMib,
  limits: { disk: row.diskEnforced ? 'enforced' : 'none' },
  network: 'off',
  env: { ...row.env },
  seed: row.seed,
  createdAt: nowText(row.createdAt),
  lastActivityAt: nowText(row.activityAt),
  expiresAt: textOrNull(row.expiresAt),
  resetCount: row.resetCount,
  lastResetAt: textOrNull(row.lastResetAt),
  lastResetSnapshot: row.lastResetSnapshot,
  commandCount: row.commandSequence,
  lastCommand: lastCommand === null ? null : summaryOf(lastCommand),
  snapshots: store.snapshots.of(row.id).map(({ name }) => name),
  diskBytes,
  failure: row.failure,
})

export const snapshotRecord = (
  workspace: WorkspaceRow,
  row: SnapshotRow,
  ownedBytes: number | null,
): SnapshotRecord => ({
  name: row.name,
  kind: row.kind,
  createdAt: nowText(row.createdAt),
  ownedBytes,
  current: row.volume === workspace.clonedFrom,
})

const summaryOf = (row: CommandRow): NonNullable<WorkspaceRecord['lastCommand']> => ({
  commandId: row.id,
  command: typeof row.command === 'string' ? row.command : [...row.command],
  exitCode: row.exitCode,
  limit: row.limit,
  running: row.state === 'running',
})

const textOrNull = (atMs: number | null): string | null => (atMs === null ? null : nowText(atMs))
