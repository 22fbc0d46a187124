import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { EXIT } from '@pyro/protocol'
import { describe, expect, test } from 'vitest'
import { tarOf } from '../support/tar.ts'
import { ENVIRONMENT, World, type WorldOptions } from '../support/world.ts'
import { inventory } from './inventory.ts'
import { smallLinux } from './root-filesystem.ts'

const run = promisify(execFile)
const MIB = 1024 * 1024

/** A folder on a filesystem of this size, gone afterwards. */
const smallDisk = async (sizeMib: number): Promise<AsyncDisposable & { readonly folder: string }> => {
  const folder = mkdtempSync(join(tmpdir(), 'pyro-small-'))
  const image = `${folder}.ext4`
  writeFileSync(image, '')
  truncateSync(image, sizeMib * MIB)
  await run('mkfs.ext4', ['-q', '-F', '-m', '0', image])
  await run('mount', ['-o', 'loop', image, folder])
  return {
    folder,
    [Symbol.asyncDispose]: async () => {
      await run('umount', [folder])
      rmSync(folder, { recursive: true })
      rmSync(image)
    },
  }
}

interface Case {
  readonly disk: 'btrfs' | 'copy'
  readonly sizeMib: number
  /** From what fits to what is larger than the disk, so that every stage meets its end. */
  readonly contentMib: readonly number[]
  readonly options: WorldOptions
}

const CASES: readonly Case[] = [
  { disk: 'copy', sizeMib: 96, contentMib: [8, 18, 24, 28, 45, 120], options: {} },
  {
    disk: 'btrfs',
    sizeMib: 480,
    contentMib: [8, 60, 100, 140, 500],
    options: { env: { PYRO_POOL_STEP_MIB: '256', PYRO_HOST_RESERVE_MIB: '16' } },
  },
]

/** An archive and a volume. */
const WHOLE = { code: 0, answer: expect.objectContaining({ installed: true }) as unknown, things: 2 }
const REFUSED = {
  code: EXIT.limit,
  answer: {
    error: expect.objectContaining({
      code: 'disk.full',
      message: expect.stringMatching(/; nothing was (installed|changed)$/) as unknown,
      hint: expect.stringMatching(/pyro env prune|PYRO_HOST_RESERVE_MIB/) as unknown,
    }) as unknown,
  },
  things: 0,
}

describe.each(CASES)('on a host whose disk runs full, with volumes of the kind $disk', (given) => {
  test('an import is whole or refused, and what is refused leaves nothing', async () => {
    await using small = await smallDisk(given.sizeMib)
    await using world = await World.open({ ...given.options, disk: given.disk, within: small.folder })
    const large = randomBytes(Math.max(...given.contentMib) * MIB)
    const ends = []
    for (const contentMib of given.contentMib) {
      const archive = tarOf([...smallLinux(), { name: 'srv/large', content: large.subarray(0, contentMib * MIB) }])
      const { code, stdout } = await world.cli(['env', 'import', 'sized:1', '-', '--json'], { input: archive })
      ends.push({ code, answer: JSON.parse(stdout) as unknown, things: inventory(world).length })
      if (code === 0) await world.pyro.environments.remove('sized:1')
    }
    expect(ends).toEqual(ends.map(({ code }) => (code === 0 ? WHOLE : REFUSED)))
    expect([ends[0]?.code, ends.at(-1)?.code]).toEqual([0, EXIT.limit])
  })
})

test('a build that fills the disk of the host says so, and leaves nothing', async () => {
  await using small = await smallDisk(160)
  await using world = await World.open({ disk: 'copy', within: small.folder, env: { PYRO_ENVIRONMENT_CACHE: '' } })
  const { code, stderr } = await world.cli(['env', 'pull', ENVIRONMENT])
  expect({ code, stderr }).toEqual({ code: EXIT.limit, stderr: expect.stringContaining('(disk.full)') })
  expect(inventory(world)).toEqual([])
})
