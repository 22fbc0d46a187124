import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Workspace } from '@pyro/sdk'
import type { World } from './world.ts'

const run = promisify(execFile)

/** Where the disk of a generation (`g2`) or a snapshot (`s1`; the baseline is `s0`) is on this host. */
export const volumePath = (world: World, ws: Workspace, part: string): string => {
  const hash = createHash('sha256').update(world.home).digest('hex').slice(0, 12)
  return join(world.runtimeDir, hash, 'volumes', `${ws.id}.${part}`)
}

/** Takes a disk away behind the engine's back. */
export const removeVolume = async (world: World, ws: Workspace, part: string): Promise<void> => {
  await run('btrfs', ['subvolume', 'delete', volumePath(world, ws, part)])
}
