import { randomBytes } from 'node:crypto'
import { chown, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import {
  DISK_FILE,
  labelOf,
  makeDiskImage,
  type DiskStore,
  type Driver,
  type SandboxSpec,
  type Volume,
  type VolumeId,
} from '@pyro/engine'
import { ID_BASE } from './disk-store-places.ts'

const DISK_BYTES = 64 * 1024 * 1024
const FILESYSTEM = '51b258d5-bca4-492f-9c99-24ccdbf58cac'
const FOLDERS = ['', 'proc', 'sys', 'dev', 'run', 'tmp', 'workspace', 'etc'] as const

/** One home with its disk store and a driver; opening the driver again is what a restarted engine does. */
export interface DriverPlace extends AsyncDisposable {
  readonly disks: DiskStore
  readonly agentPath: string
  openDriver(): Driver
}

/** A small sandbox, the first of its workspace. */
export const sandboxSpec = (driver: Driver, workspaceId: string, volume: Volume): SandboxSpec => ({
  sandboxId: `${workspaceId}-g1`,
  workspaceId,
  generation: 1,
  volume,
  filesystem: driver.volumes === 'images' ? FILESYSTEM : null,
  inspects: [],
  hostname: workspaceId,
  vcpus: 1,
  memoryMib: 256,
  pidsMax: 256,
  token: randomBytes(32).toString('hex'),
})

/** A volume with the folders that every environment has and no program, in the form that the driver takes. */
export const emptyVolume = async (
  { disks, agentPath }: DriverPlace,
  driver: Driver,
  workspaceId: string,
): Promise<Volume> => {
  const name = `${workspaceId}.g1`
  const volume = await disks.create(name as VolumeId)
  if (driver.volumes === 'trees') await makeTree(volume.path)
  else {
    const tree = await disks.create(`${name}.tree` as VolumeId)
    await makeTree(tree.path)
    const filesystem = { bytes: DISK_BYTES, uuid: FILESYSTEM, label: labelOf(workspaceId) }
    const image = { tree: tree.path, file: join(volume.path, DISK_FILE), ...filesystem }
    await makeDiskImage({ agentPath, idBase: ID_BASE }, image)
    await disks.remove(tree.id)
  }
  return volume
}

const makeTree = async (root: string): Promise<void> => {
  for (const folder of FOLDERS) {
    const path = join(root, folder)
    await mkdir(path, { recursive: true, mode: 0o755 })
    await chown(path, ID_BASE, ID_BASE)
  }
}
