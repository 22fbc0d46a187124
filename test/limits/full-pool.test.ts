import { execFileSync } from 'node:child_process'
import { closeSync, mkdirSync, openSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { agentPath, temporaryPlace } from '@pyro/driver-testkit'
import { openDiskStore } from '@pyro/engine'
import { expect, test } from 'vitest'
import { environmentVolume, volumeId } from '../../packages/engine/src/disk/disk-store.ts'

const MIB = 1024 * 1024
const POOL_BYTES = 256 * MIB
/** No host has so much: the pool does not grow. */
const NO_GROWTH_BYTES = 2 ** 50
/** Its content goes into the nodes of the filesystem. */
const SMALL_FILE = Buffer.alloc(1_500, 1)
const FOLDERS = 50
/** More than the pool holds. */
const MANY = 1_000_000
const WORKSPACES = 40
/** What is full at one moment has room again when its writes have ended. */
const FILLED_TIMES = 20
const FILLED_STEP_MS = 100
/** In a full pool the cleaner may have to wait for room itself. */
const TRIED_MS = 2_000
const CLEANED_WITHIN_MS = 30_000

const fill = (atMost: number, write: () => void): void => {
  for (let times = 0; times < atMost; times += 1) {
    try {
      write()
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOSPC') return
      throw error
    }
  }
}

const fillContent = (folder: string): void => {
  const data = openSync(join(folder, 'data'), 'w')
  fill(MANY, () => void writeSync(data, Buffer.alloc(MIB, 1)))
  closeSync(data)
}

/** Done again, it takes what came free meanwhile. */
const nodeFiller = (folder: string): ((atMost?: number) => void) => {
  let files = 0
  return (atMost = MANY) =>
    fill(atMost, () => {
      const place = join(folder, String(files % FOLDERS))
      mkdirSync(place, { recursive: true })
      writeFileSync(join(place, String(files)), SMALL_FILE)
      files += 1
    })
}

test('volumes go from a pool that is full to the last node, and what accounts for them goes later', async () => {
  await using place = await temporaryPlace({ agentPath: agentPath(), disk: 'btrfs', poolStepBytes: POOL_BYTES })
  await (await place.open())[Symbol.asyncDispose]()
  const environment = environmentVolume('0123456789abcdef')
  const groups = (): string[] =>
    execFileSync('btrfs', ['qgroup', 'show', '--raw', join(place.runtimeDir, 'volumes')], { encoding: 'utf8' })
      .split('\n')
      .flatMap((line) => /^1\/\d+/.exec(line) ?? [])
  {
    await using store = await openDiskStore(
      { ...place.config, hostReserveBytes: NO_GROWTH_BYTES },
      { agentPath: agentPath() },
    )
    await store.create(environment)
    await store.seal(environment)
    const clone = (name: string) => store.clone(environment, volumeId(`${name}.g1`), { limitBytes: null, group: name })
    const small = []
    for (let n = 0; n < WORKSPACES; n += 1) {
      const volume = await clone(`ws-small${n}`)
      writeFileSync(join(volume.path, 'file'), Buffer.alloc(20_000, n))
      small.push(volume)
    }
    const large = await clone('ws-large')
    fillContent(large.path)
    const fillNodes = nodeFiller(large.path)
    for (let times = 0; times < FILLED_TIMES; times += 1) {
      fillNodes()
      await sleep(FILLED_STEP_MS)
    }
    for (const { id } of small) {
      await store.remove(id)
      fillNodes(1)
    }
    await store.reclaimSpace({ timeoutMs: TRIED_MS })
    expect(groups().length).toBeGreaterThan(1)
    await store.remove(large.id)
    await store.reclaimSpace({ timeoutMs: CLEANED_WITHIN_MS })
  }
  await using store = await place.open()
  expect(groups()).toEqual([])
  expect((await store.list()).map(({ id }) => id)).toEqual([environment])
})
