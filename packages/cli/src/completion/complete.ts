import { isPyroError, Pyro, type CallOptions } from '@pyro/sdk'
import { COMMANDS } from '../generated/commands.ts'
import { candidatesFor, type Candidates } from './candidates.ts'

/** A person waits with a finger on the key. */
const NAMES_DEADLINE_MS = 1_000

/** One candidate a line; `:files` asks the shell for paths. Never starts an engine and never fails. */
export const complete = async (words: readonly string[]): Promise<string> => {
  const typed = words.at(-1) ?? ''
  const candidates = candidatesFor(COMMANDS, words)
  const names = (await namesOf(candidates)).map((name) => candidates.prefix + name)
  const lines = [...candidates.words, ...names].filter((word) => word.startsWith(typed))
  return [...lines, ...(candidates.files ? [':files'] : [])].map((line) => `${line}\n`).join('')
}

const namesOf = async ({ names }: Candidates): Promise<readonly string[]> => {
  if (names === null) return []
  try {
    await using pyro = Pyro.open({ start: false })
    return await ask(pyro, names, AbortSignal.timeout(NAMES_DEADLINE_MS))
  } catch (error) {
    // No engine, no such workspace, no valid home: nothing to offer.
    if (isPyroError(error)) return []
    throw error
  }
}

type Names = NonNullable<Candidates['names']>
type Ask = (pyro: Pyro, options: CallOptions, workspace: string) => Promise<readonly string[]>

const ask = async (pyro: Pyro, names: Names, signal: AbortSignal): Promise<readonly string[]> => {
  const belongsToWorkspace = names.of === 'snapshot' || names.of === 'command'
  if (belongsToWorkspace && names.workspace === null) return []
  return ASK[names.of](pyro, { signal }, names.workspace ?? '')
}

const ASK: Readonly<Record<Names['of'], Ask>> = {
  workspace: async ({ client }, options) =>
    (await client.call('workspace.list', {}, options)).workspaces.map(({ name }) => name),
  environment: async ({ client }, options) =>
    (await client.call('environment.list', {}, options)).environments.map(({ name }) => name),
  snapshot: async ({ client }, options, workspace) =>
    (await client.call('workspace.snapshot.list', { workspace }, options)).snapshots.map(({ name }) => name),
  command: async ({ client }, options, workspace) =>
    (await client.call('workspace.command.list', { workspace }, options)).commands.map(({ commandId }) => commandId),
}
