import { execFile } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect } from 'vitest'
import { createOn } from '../support/driver-workspaces.ts'
import { onEveryDriver } from '../support/every-driver.ts'
import { hogIn, hostProbe, probeFolder, takenOf, useIn } from '../support/probe.ts'
import { World } from '../support/world.ts'

const run = promisify(execFile)

/** What the kernel counts for a user, for whoever made a user namespace, or for all; and how much an ordinary program wants. */
const COUNTED = {
  inotify: 5,
  watches: 100,
  fanotify: 5,
  pipes: 20,
  ptys: 5,
  queues: 3,
  signals: 20,
  timers: 20,
  locked: 5,
  segments: 2,
  semaphores: 10,
  descriptors: 5,
  files: 100,
  opened: 100,
  requests: 5,
  locks: 100,
  epoll: 1000,
} as const
type Counted = keyof typeof COUNTED

/** Where using up all would take memory or time without end: what is taken then is far beyond what others get by on. */
const AT_MOST: Partial<Record<Counted, number>> = {
  epoll: 100_000,
  locks: 3_000,
  segments: 100,
  descriptors: 300,
  opened: 4_000,
  watches: 10_000,
}
/** gVisor counts for itself, and slowly. */
const AT_MOST_OF_ITS_OWN = 2_000
const NO_LIMIT = 0
const MEMORY_MIB = 512
const OPEN_FILES = '/proc/sys/fs/file-max'
/** Of them, by a host that does not end them at boot. */
const FREE_FILES = 2_000

let world: World
let openFiles: string
beforeAll(async () => {
  openFiles = readFileSync(OPEN_FILES, 'utf8')
  const [used = ''] = readFileSync('/proc/sys/fs/file-nr', 'utf8').split('\t')
  // Root of the host is not bound to it.
  writeFileSync(OPEN_FILES, String(Number(used) + FREE_FILES))
  world = await World.open()
})
afterAll(async () => {
  await world[Symbol.asyncDispose]()
  writeFileSync(OPEN_FILES, openFiles)
})

const useOnHost = async (hog: Counted): Promise<unknown> =>
  takenOf(await run(hostProbe(), ['use', hog, String(COUNTED[hog])]))

describe('what the kernel counts', () => {
  onEveryDriver('limit.shared-kernel', async (driver) => {
    const options = { memoryMib: MEMORY_MIB, seed: { path: probeFolder() } }
    await using neighbour = await createOn(world, driver, options)
    await using ws = await createOn(world, driver, options)
    for (const hog of Object.keys(COUNTED) as Counted[]) {
      const before = await useIn(neighbour, hog, COUNTED[hog])
      const most = AT_MOST[hog] ?? (driver === 'runsc' ? AT_MOST_OF_ITS_OWN : NO_LIMIT)
      const { command, taken } = await hogIn(ws, hog, most)
      // Some resources a sandbox does not have at all.
      if (before.count > 0)
        expect(taken).toMatchObject({ hog, count: expect.toSatisfy((count: number) => count >= COUNTED[hog]) })
      expect(await useIn(neighbour, hog, COUNTED[hog])).toEqual(before)
      expect(await useOnHost(hog)).toEqual({ hog, count: COUNTED[hog], end: null })
      await command.kill('KILL')
      // Segments and the like outlive who made them.
      await ws.exec('ipcrm --all', { check: true })
    }
    expect(await ws.status()).toMatchObject({ phase: 'running', generation: 1 })
  })
})
