import { isPyroError, type CommandResult } from '@pyro/protocol'
import type { ExecOptions, Workspace } from '@pyro/sdk'
import { expect } from 'vitest'

/** What a command came to that hits a limit: its result, also when its sandbox ended with it. */
export const resultOf = async (
  ws: Workspace,
  command: string | string[],
  options: ExecOptions = {},
): Promise<CommandResult> => {
  try {
    return await ws.exec(command, options)
  } catch (error) {
    if (!isPyroError(error) || error.code !== 'command.interrupted') throw error
    return (error.data as { command: CommandResult }).command
  }
}

/** The record after a limit: the same sandbox, or a stopped workspace that says which limit it was. */
export const expectSurvival = async (
  ws: Workspace,
  limit: 'memory' | 'processes',
  sandboxEnds: boolean,
): Promise<void> => {
  const record = await ws.status()
  if (!sandboxEnds) {
    expect(record).toMatchObject({ phase: 'running', generation: 1, failure: null })
    return
  }
  expect(record).toMatchObject({ phase: 'stopped', failure: { code: 'limit.exceeded' } })
  expect(record.failure?.message).toContain(limit)
  expect(record.failure?.hint).toContain(`pyro workspace start ${record.name}`)
}
