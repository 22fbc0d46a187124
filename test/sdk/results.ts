import type { CommandResult, WorkspaceRecord } from '@pyro/protocol'

export const WORKSPACE_ID = 'ws-abcdefghijkl'
export const COMMAND_ID = 'cmd-abcdefghijkl'
const TIME = '2026-01-02T03:04:05.678Z'

export const commandResult = (changes: Partial<CommandResult> = {}): CommandResult => ({
  workspaceId: WORKSPACE_ID,
  commandId: COMMAND_ID,
  sequence: 1,
  command: ['true'],
  cwd: '/workspace',
  state: 'exited',
  startedAt: TIME,
  exitCode: 0,
  signal: null,
  timedOut: false,
  limit: null,
  interruptedBy: null,
  durationMs: 12,
  stdout: '',
  stderr: '',
  stdoutBytes: 0,
  stderrBytes: 0,
  truncated: false,
  ...changes,
})

export const workspaceRecord = (changes: Partial<WorkspaceRecord> = {}): WorkspaceRecord => ({
  workspaceId: WORKSPACE_ID,
  name: 'fix',
  labels: {},
  environment: { name: 'debian:12', digest: 'sha256:0' },
  driver: 'runsc',
  isolation: 'gvisor',
  emulated: false,
  phase: 'running',
  generation: 1,
  vcpus: 2,
  memoryMib: 2048,
  diskMib: 16384,
  limits: { disk: 'enforced' },
  network: 'off',
  env: {},
  seed: { mode: 'none', source: null, files: 0, bytes: 0, modified: null, untracked: null, ignored: null },
  createdAt: TIME,
  lastActivityAt: TIME,
  expiresAt: null,
  resetCount: 0,
  lastResetAt: null,
  lastResetSnapshot: null,
  commandCount: 0,
  lastCommand: null,
  snapshots: ['baseline'],
  diskBytes: null,
  failure: null,
  ...changes,
})
