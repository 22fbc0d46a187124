import { ERRORS, type ErrorCode } from '@pyro/protocol'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ENVIRONMENT, World } from '../support/world.ts'
import { PROVOCATIONS, SHARED } from './provocations.ts'

/** Where the exit code belongs to the user's command. */
const PYRO_FAILED = 125
const CARRIERS: readonly ErrorCode[] = ['command.interrupted', 'request.timed-out', 'workspace.wrong-phase']

let world: World
beforeAll(async () => {
  world = await World.open()
  await world.pyro.environments.pull(ENVIRONMENT)
  const options = { environment: ENVIRONMENT, driver: 'runc', name: SHARED, keep: true } as const
  const shared = await world.pyro.workspaces.create(options)
  await shared.files.write('notes.txt', 'one\ntwo\n')
})
afterAll(() => world[Symbol.asyncDispose]())

/** Cancelling was the caller's own doing. */
const HINTLESS: readonly ErrorCode[] = ['request.cancelled']
const SIGINT_EXIT = 130

const exitOf = (code: ErrorCode): number => {
  if (code === 'request.cancelled') return SIGINT_EXIT
  return CARRIERS.includes(code) ? PYRO_FAILED : ERRORS[code].exit
}

/** The next engine has these variables; the one after it is as before. Neither is started here. */
const withEngine = async <T>(variables: Readonly<Record<string, string>>, work: () => Promise<T>): Promise<T> => {
  if (Object.keys(variables).length === 0) return work()
  const before = Object.keys(variables).map((name) => [name, process.env[name]] as const)
  await world.killEngine()
  Object.assign(process.env, variables)
  Object.assign(world.env, variables)
  try {
    return await work()
  } finally {
    await world.killEngine()
    for (const [name, value] of before) {
      if (value === undefined) world.unset(name)
      else world.env[name] = process.env[name] = value
    }
  }
}

const cases = Object.entries(PROVOCATIONS) as [ErrorCode, (typeof PROVOCATIONS)[ErrorCode]][]

describe('every error of the catalogue', () => {
  test.each(cases)('%s comes with its exit code, a message and a hint', async (code, { engine, provoke }) => {
    const variables = typeof engine === 'function' ? engine(world) : (engine ?? {})
    const said = await withEngine(variables, () => provoke(world))
    expect(said).toMatchObject({ code })
    expect(said.message).toMatch(/^[^\n]{10,}$/)
    expect(said.message).not.toMatch(/undefined|\[object|; ;|: ;/)
    expect(said.hint ?? 'nothing to do next').toMatch(/^[^\n]{5,}$/)
    expect(said.hint === null).toBe(HINTLESS.includes(code))
    expect(said.exit ?? exitOf(code)).toBe(exitOf(code))
  })

  test('speaks of the options and words of the line, where a value is refused', async () => {
    const said = await world.cli(['ws', 'create', ENVIRONMENT, '--vcpus', '0', '--disk-mib', '0', '--driver', 'runc'])
    expect(said.stderr).toMatch(
      /^error: --vcpus: Too small.*; --disk-mib: Too small.*; nothing was changed \(input.invalid\)$/m,
    )
    expect((await world.cli(['ws', 'create', ENVIRONMENT, '--name', '-x'])).stderr).toMatch(/^error: --name: /m)
    expect((await world.cli(['ws', 'snapshot', 'create', SHARED, 'a b'])).stderr).toMatch(/^error: [A-Z]+: /m)
  })

  test('left the workspace that they share as it was', async () => {
    const ws = await world.pyro.workspaces.get(SHARED)
    expect(ws.info).toMatchObject({ phase: 'running', resetCount: 0, snapshots: ['baseline'], failure: null })
    expect((await world.pyro.workspaces.list()).map(({ name }) => name)).toEqual([SHARED])
    const { result } = await ws.diff()
    expect(result.entries.map(({ path }) => path)).toEqual(['notes.txt'])
  })
})
