import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { TestedDriver } from '@pyro/driver-testkit'
import type { Workspace } from '@pyro/sdk'
import { hashOf } from './host-sight.ts'
import type { World } from './world.ts'

const run = promisify(execFile)

/** How the root of sandboxes counts on disks: those of machines are not shared with the host's kernel. */
export const firstId = (driver: TestedDriver): number => (driver === 'qemu' ? 0 : 0x4000_0000)

/** Where the disk of a generation (`g2`) or a snapshot (`s1`; the baseline is `s0`) is on this host. */
export const volumePath = (world: World, ws: Workspace, part: string): string => {
  return join(world.runtimeDir, hashOf(world.home), 'volumes', `${ws.id}.${part}`)
}

/**
 * Looks at what a disk holds, as a folder of this host: the tree itself, or a copy of the image, mounted as a machine would. What a
 * running machine has not written out yet is not seen: it is asked to, first.
 */
export const lookAtDisk = async <T>(
  world: World,
  ws: Workspace,
  part: string,
  look: (root: string) => Promise<T>,
): Promise<T> => {
  const volume = volumePath(world, ws, part)
  const image = join(volume, 'disk.raw')
  if (!existsSync(image)) return look(volume)
  if (part.startsWith('g')) await ws.exec('sync', { check: true })
  const folder = await mkdtemp(join(tmpdir(), 'pyro-image-'))
  const [copy, root] = [join(folder, 'disk.raw'), join(folder, 'root')]
  try {
    await mkdir(root)
    await run('cp', ['--sparse=always', image, copy])
    await run('mount', ['-o', 'loop,noatime', copy, root])
    try {
      return await look(root)
    } finally {
      await run('umount', [root])
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** Takes a disk away behind the engine's back. */
export const removeVolume = async (world: World, ws: Workspace, part: string): Promise<void> => {
  await run('btrfs', ['subvolume', 'delete', volumePath(world, ws, part)])
}
