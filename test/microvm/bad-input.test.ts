import { readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { isPyroError } from '@pyro/protocol'
import { afterAll, describe, expect, test } from 'vitest'
import { createOn } from '../support/driver-workspaces.ts'
import { rejectionOf } from '../support/rejection.ts'
import { openOwnCache } from './own-cache.ts'

const own = await openOwnCache()
const { cache, world } = own
afterAll(() => own[Symbol.asyncDispose]())

const host = availableParallelism()

describe('a machine that cannot be', () => {
  test.each([
    ['a part of a processor', { vcpus: 0.5 }, { code: 'limit.exceeded', hint: '--vcpus 1' }],
    ['more processors than the host has', { vcpus: host + 1 }, { code: 'limit.exceeded', hint: `--vcpus ${host}` }],
    [
      'a disk smaller than its environment',
      { diskMib: 64 },
      { code: 'disk.full', hint: expect.stringMatching(/^--disk-mib \d+/) as string },
    ],
  ])('for %s is refused, and nothing is left', async (_what, options, refusal) => {
    expect(await rejectionOf(createOn(world, 'qemu', options))).toMatchObject(refusal)
    expect(await world.pyro.workspaces.list()).toEqual([])
  })

  test('for a disk that is too small is, with the one that is proposed instead', async () => {
    const refusal = await rejectionOf(createOn(world, 'qemu', { diskMib: 64 }))
    const diskMib = isPyroError(refusal) ? Number(/--disk-mib (\d+)/.exec(refusal.hint ?? '')?.[1]) : null
    await using ws = await createOn(world, 'qemu', { diskMib: diskMib ?? 64 })
    expect(await ws.status()).toMatchObject({ diskMib })
    expect((await ws.exec('df --output=avail -m / | tail -n 1', { check: true })).stdout.trim()).not.toBe('0')
  })

  test('smaller is none: the least memory that can be asked for is enough', async () => {
    await using ws = await createOn(world, 'qemu', { memoryMib: 64 })
    expect((await ws.exec('echo here', { check: true })).stdout).toBe('here\n')
  })
})

const filesIn = (folder: string, name: string): string[] =>
  readdirSync(join(cache, folder), { recursive: true })
    .map(String)
    .filter((path) => path.split('/').at(-1) === name)
    .map((path) => join(cache, folder, path))

/** Which file it is; one that is not there is none. */
const identity = (path: string): string => {
  const stats = statSync(path, { bigint: true, throwIfNoEntry: false })
  return stats === undefined ? 'none' : `${stats.ino} ${stats.mtimeNs}`
}

/** One byte becomes another, and the file keeps its size. */
const spoil = (path: string): void => {
  const content = readFileSync(path)
  const at = content.length >> 1
  content.writeUInt8(content.readUInt8(at) ^ 0xff, at)
  rmSync(path)
  writeFileSync(path, content)
}

describe('what machines start from', () => {
  /** What the caller was told meanwhile. */
  const start = async (): Promise<string[]> => {
    const said: string[] = []
    await using ws = await createOn(world, 'qemu', { onProgress: ({ step }) => void said.push(step) })
    expect((await ws.exec('echo here', { check: true })).stdout).toBe('here\n')
    return said
  }

  test.each([
    ['kernels', 'vmlinuz', spoil],
    ['kernels', 'virtio_blk.ko', spoil],
    ['kernels', 'initramfs.img', spoil],
    ['kernels', 'sums.json', (path: string) => rmSync(path)],
    ['templates', 'state', spoil],
    ['templates', 'memory', (path: string) => utimesSync(path, 1, 1)],
    ['templates', 'manifest.json', (path: string) => writeFileSync(path, '{')],
  ] as const)(
    'is made anew when it is damaged: %s/%s',
    async (folder, name, damage) => {
      await start()
      const whole = filesIn(folder, name)
      expect(whole).not.toEqual([])
      for (const path of whole) damage(path)
      const damaged = whole.map(identity)
      await world.restartEngine()
      const said = await start()
      expect(said).toContain('trying whether qemu works on this host')
      expect(said.includes('booting a machine to start others from')).toBe(folder === 'templates')
      // Of templates only what this machine starts from.
      expect(whole.some((path, at) => identity(path) !== damaged[at])).toBe(true)
    },
    300_000,
  )

  test.each(['vmlinuz', 'initramfs.img'])(
    'is made anew for the same start when the engine saw it whole and it is damaged: kernels/%s',
    async (name) => {
      await start()
      rmSync(join(cache, 'templates'), { recursive: true })
      const [path = ''] = filesIn('kernels', name)
      writeFileSync(path, Buffer.alloc(statSync(path).size))
      const damaged = identity(path)
      await start()
      expect(identity(path)).not.toBe(damaged)
    },
    180_000,
  )
})
