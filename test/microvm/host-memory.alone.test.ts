import { totalmem } from 'node:os'
import { isPyroError } from '@pyro/protocol'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createOn } from '../support/driver-workspaces.ts'
import { World } from '../support/world.ts'

const MIB = 1024 * 1024
/** Memory for which the host waits comes later, and a template would be booted first. */
const AT_ONCE_MS = 15_000

let world: World
beforeAll(async () => {
  world = await World.open()
})
afterAll(() => world[Symbol.asyncDispose]())

test('a machine that takes more than the host has, with its kernel and its VMM, is refused before anything is made for it', async () => {
  const memoryMib = Math.floor(totalmem() / MIB)
  const begun = performance.now()
  const refusal: unknown = await createOn(world, 'qemu', { memoryMib }).catch((error: unknown) => error)
  expect(refusal).toMatchObject({ code: 'limit.exceeded', data: { limit: 'host-memory', totalMib: memoryMib } })
  expect(isPyroError(refusal) && refusal.data?.['wantedMib']).toBeGreaterThan(memoryMib)
  expect(performance.now() - begun).toBeLessThan(AT_ONCE_MS)
})
