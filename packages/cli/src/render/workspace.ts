import { relative } from 'node:path'
import type { CommandInput, WorkspaceRecord } from '@pyro/protocol'
import { counted, formatAge, formatBytes } from './format.ts'
import { fields, table } from './table.ts'

export const workspaceTable = (workspaces: readonly WorkspaceRecord[]): string =>
  table(
    ['NAME', 'ID', 'PHASE', 'ENVIRONMENT', 'ISOLATION', 'SNAPSHOTS', 'ACTIVE'],
    workspaces.map((workspace) => [
      workspace.name,
      workspace.workspaceId,
      phaseOf(workspace),
      workspace.environment.name,
      isolationOf(workspace),
      String(workspace.snapshots.length),
      formatAge(workspace.lastActivityAt),
    ]),
  )

/** Everything of one workspace that a person asks about. */
export const workspaceDetails = (workspace: WorkspaceRecord): string =>
  fields([
    ['name', workspace.name],
    ['id', workspace.workspaceId],
    ['phase', phaseOf(workspace)],
    ['failure', failureOf(workspace)],
    ['environment', workspace.environment.name],
    ['isolation', `${isolationOf(workspace)} (driver ${workspace.driver})`],
    ['machine', `${counted(workspace.vcpus, 'vCPU')}, ${workspace.memoryMib} MiB memory, ${diskOf(workspace)}`],
    ['network', workspace.network],
    ['seed', seedOf(workspace)],
    ['labels', pairs(workspace.labels)],
    ['env', Object.keys(workspace.env).join(', ')],
    ['snapshots', workspace.snapshots.join(', ')],
    ['commands', commandsOf(workspace)],
    ['resets', resetsOf(workspace)],
    ['created', formatAge(workspace.createdAt)],
    ['last activity', formatAge(workspace.lastActivityAt)],
    ['expires', workspace.expiresAt === null ? null : formatAge(workspace.expiresAt)],
  ])

/** One line that says which workspace this is and how it stands. */
export const workspaceLine = (workspace: WorkspaceRecord): string =>
  [
    `${workspace.workspaceId} "${workspace.name}" ${phaseOf(workspace)}`,
    workspace.environment.name,
    isolationOf(workspace),
    `network ${workspace.network}`,
    `${counted(workspace.vcpus, 'vCPU')} ${workspace.memoryMib} MiB`,
  ].join(' · ')

export const seedOf = ({ seed }: WorkspaceRecord): string | null => {
  if (seed.mode === 'none') return null
  const git = [
    [seed.modified, 'modified'],
    [seed.untracked, 'untracked'],
    [seed.ignored, 'ignored left out'],
  ]
    .filter(([count]) => count !== null && count !== 0)
    .map(([count, what]) => `${count} ${what}`)
  const detail = git.length === 0 ? '' : `: ${git.join(', ')}`
  const source = seed.source === null ? 'a stream' : fromHere(seed.source)
  return `${counted(seed.files, 'file')}, ${formatBytes(seed.bytes)} from ${source}${detail}`
}

/** A path of this host as somebody in this folder would say it. */
const fromHere = (path: string): string => {
  const below = relative(process.cwd(), path)
  if (below === '') return '.'
  return below === '..' || below.startsWith('../') ? path : below
}

const phaseOf = ({ phase, failure }: WorkspaceRecord): string =>
  failure === null ? phase : `${phase} (${failure.code})`

export const failureOf = ({ failure }: WorkspaceRecord): string | null =>
  failure === null ? null : failure.hint === null ? failure.message : `${failure.message} (${failure.hint})`

const isolationOf = ({ isolation, emulated }: WorkspaceRecord): string =>
  emulated ? `${isolation}, emulated` : isolation

const diskOf = ({ diskMib, diskBytes, limits }: WorkspaceRecord): string => {
  const limit = limits.disk === 'enforced' ? `${diskMib} MiB disk` : 'disk without a limit'
  return diskBytes === null ? limit : `${limit} (${formatBytes(diskBytes)} its own)`
}

const commandsOf = ({ commandCount, lastCommand }: WorkspaceRecord): string => {
  if (lastCommand === null) return String(commandCount)
  const { running, exitCode, limit } = lastCommand
  // The engine writes none for a command that did not come to its end.
  const ended = exitCode === null ? 'interrupted' : `exit ${exitCode}`
  const state = running ? 'running' : `${ended}${limit === null ? '' : `, at its ${limit} limit`}`
  return `${commandCount}, last: ${commandText(lastCommand.command)} (${state})`
}

const resetsOf = ({ resetCount, lastResetAt, lastResetSnapshot }: WorkspaceRecord): string =>
  lastResetAt === null ? String(resetCount) : `${resetCount}, last to ${lastResetSnapshot} ${formatAge(lastResetAt)}`

export const commandText = (command: CommandInput): string =>
  typeof command === 'string'
    ? command
    : command
        .map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`))
        .join(' ')

const pairs = (record: Readonly<Record<string, string>>): string =>
  Object.entries(record)
    .map(([key, value]) => `${key}=${value}`)
    .join(', ')
