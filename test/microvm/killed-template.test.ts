import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { ENVIRONMENT, until, World } from '../support/world.ts'

/** No other test has machines of this size, and none of this one is ever made whole. */
const MEMORY_MIB = 259

const argvOf = (pid: string): string[] => {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
  } catch {
    return []
  }
}

/** Folders in which machines run for an engine, as templates to be. */
const beingMadeBy = (engine: number): string[] =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(argvOf)
    .filter(([, role, way, folder]) => role === 'vmm' && way === 'hold' && folder?.includes(`-${engine}-`) === true)
    .flatMap(([, , , folder]) => folder ?? [])

test('a machine that becomes a template ends with its engine, and what was made of it goes with the next one', async () => {
  await using world = await World.open()
  const engine = (await world.enginePid()) ?? 0
  const givingUp = new AbortController()
  const creating = world.pyro.workspaces
    .create({ environment: ENVIRONMENT, driver: 'qemu', memoryMib: MEMORY_MIB, signal: givingUp.signal })
    .catch(() => undefined)
  await until(() => beingMadeBy(engine).length > 0, 'a template to be begun')
  const [folder = ''] = beingMadeBy(engine)
  process.kill(engine, 'SIGKILL')
  givingUp.abort()
  await creating
  await until(() => beingMadeBy(engine).length === 0, 'its machine to end')
  await world.restartEngine()
  expect(readdirSync(join(folder, '..'))).not.toContain(folder.split('/').at(-1))
})
