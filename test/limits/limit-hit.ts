import { isPyroError, type CommandResult } from '@pyro/protocol'
import type { ExecOptions, Workspace } from '@pyro/sdk'
import { expect } from 'vitest'
import { until } from '../support/world.ts'

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
  if (!sandboxEnds) {
    expect(await ws.status()).toMatchObject({ phase: 'running', generation: 1, failure: null })
    return
  }
  // Its commands are interrupted before its end is written down.
  await until(async () => (await ws.status()).phase === 'stopped', 'the workspace to be stopped')
  const record = await ws.status()
  expect(record).toMatchObject({ phase: 'stopped', failure: { code: 'limit.exceeded' } })
  expect(record.failure?.message).toContain(limit)
  expect(record.failure?.hint).toContain(`pyro workspace start ${record.name}`)
}
