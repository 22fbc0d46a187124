import { execFile } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { hashOf } from '../support/host-sight.ts'
import type { World } from '../support/world.ts'

const run = promisify(execFile)

/** Where the disks of a home are seen on this host. */
export const volumesFolder = (world: World): string => join(world.runtimeDir, hashOf(world.home), 'volumes')

/** What a home holds of environments, looked at from outside: archives, volumes and files on their way, a line each. */
export const inventory = (world: World): string[] =>
  [
    ...namesIn(join(world.home, 'environments')).filter((name) => name !== 'names.json'),
    ...namesIn(volumesFolder(world)).filter((name) => name.startsWith('env-')),
    ...namesIn(join(world.home, 'tmp', 'environments')).map((name) => `on its way: ${name}`),
  ].sort()

export const packagesInCache = (world: World): string[] =>
  namesIn(join(world.home, 'cache', 'packages')).filter((name) => name.endsWith('.deb'))

/** Takes the disk of an environment away behind the engine's back. */
export const removeEnvironmentVolume = async (world: World, digest: string): Promise<void> => {
  const name = namesIn(volumesFolder(world)).find((volume) => digest.includes(volume.slice('env-'.length)))
  if (name === undefined) throw new Error(`no volume of ${digest}`)
  await run('btrfs', ['subvolume', 'delete', join(volumesFolder(world), name)])
}

const namesIn = (folder: string): string[] => (existsSync(folder) ? readdirSync(folder) : [])
