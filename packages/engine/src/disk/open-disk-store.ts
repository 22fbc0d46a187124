import { mkdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { isPyroError, PyroError } from '@pyro/protocol'
import { z } from 'zod'
import type { EngineConfig } from '../lib/config.ts'
import { errnoOf } from '../process/identity.ts'
import { runProgram } from '../process/program.ts'
import { BtrfsStore } from './btrfs-store.ts'
import { CopyStore } from './copy-store.ts'
import type { DiskStore } from './disk-store.ts'
import { PoolFile } from './pool-file.ts'
import { toPyroError, VolumesHelper } from './volumes-helper.ts'
import { bindFolder, makePassable, makeRuntimeFolders } from './volume-folder.ts'

const GIB = 1024 * 1024 * 1024
const TOOL_TIMEOUT_MS = 10_000

const hostProbe = z.object({ loopControl: z.boolean(), btrfs: z.boolean(), kernel: z.string() })
const filesystem = z.object({ type: z.string() })

export type DiskConfig = Pick<
  EngineConfig,
  'home' | 'runtimeDir' | 'disk' | 'poolStepBytes' | 'hostReserveBytes' | 'idBase'
>

export interface OpenDiskStoreOptions {
  /** The agent binary, whose role `volumes` does what needs an ioctl. */
  readonly agentPath: string
}

/**
 * Opens the store of this home and shows it at `<runtimeDir>/volumes`; what a crash or a reboot left is put right. The kind a home
 * began with is the kind it keeps: its volumes would be out of reach in another one.
 */
export const openDiskStore = async (config: DiskConfig, { agentPath }: OpenDiskStoreOptions): Promise<DiskStore> => {
  const helper = new VolumesHelper(agentPath)
  try {
    const target = join(config.runtimeDir, 'volumes')
    await makeRuntimeFolders(config.runtimeDir, target)
    return await choose(config, helper, target)
  } catch (error) {
    await helper.close()
    const failure = toPyroError(error, `opening the disks of ${config.home}`)
    // Without an engine nothing of Pyro can be deleted.
    if (!isPyroError(failure) || failure.code !== 'disk.full') throw failure
    throw new PyroError('disk.full', failure.message, { hint: 'free space on the host', cause: error })
  }
}

const choose = async (config: DiskConfig, helper: VolumesHelper, target: string): Promise<DiskStore> => {
  const file = join(config.home, 'pool.btrfs')
  const copies = join(config.home, 'volumes', '.complete')
  const began = (await exists(file)) ? 'btrfs' : (await exists(copies)) ? 'copy' : null
  if (began !== null && config.disk !== 'auto' && config.disk !== began)
    throw new PyroError(
      'input.invalid',
      `the disks of ${config.home} are of the kind ${began}, not ${config.disk}; nothing was changed`,
      { hint: `unset PYRO_DISK, or use another PYRO_HOME` },
    )
  const kind = began ?? config.disk
  if (kind === 'copy') return openCopy(config, helper, target, null)
  const { type } = await helper.request('statfs', { path: config.home }, filesystem)
  if (type === 'btrfs' && !(await exists(file))) return openHostBtrfs(config, helper, target)
  try {
    return await openPool(config, helper, target, file)
  } catch (error) {
    if (kind === 'btrfs' || !isPyroError(error) || error.code !== 'host.missing-tool') throw error
    return openCopy(config, helper, target, error)
  }
}

const openPool = async (
  config: DiskConfig,
  helper: VolumesHelper,
  target: string,
  file: string,
): Promise<DiskStore> => {
  await checkHost(helper)
  const { idBase, poolStepBytes, hostReserveBytes } = config
  const pool = await PoolFile.open(helper, { file, target, stepBytes: poolStepBytes, reserveBytes: hostReserveBytes })
  await makePassable(target, idBase)
  const sizeGib = ((await pool.sizeBytes()) / GIB).toFixed(1)
  return BtrfsStore.open(helper, { folder: target, idBase, pool, detail: `btrfs in ${file} (${sizeGib} GiB)` })
}

const openHostBtrfs = async (config: DiskConfig, helper: VolumesHelper, target: string): Promise<DiskStore> => {
  await showVolumes(config, helper, target)
  const detail = `subvolumes of the host's btrfs below ${config.home}; disk limits are not enforced there`
  return BtrfsStore.open(helper, { folder: target, idBase: config.idBase, pool: null, detail })
}

const openCopy = async (
  config: DiskConfig,
  helper: VolumesHelper,
  target: string,
  fallback: PyroError | null,
): Promise<DiskStore> => {
  await showVolumes(config, helper, target)
  const reflink = await helper.request('reflink.probe', { path: config.home }, z.object({ reflink: z.boolean() }))
  const detail = `plain copies below ${config.home}, ${reflink.reflink ? 'sharing extents' : 'without shared extents: slow'}; disk limits are not enforced`
  return CopyStore.open(helper, { folder: target, idBase: config.idBase, detail, fallback })
}

const showVolumes = async (config: DiskConfig, helper: VolumesHelper, target: string): Promise<void> => {
  const folder = join(config.home, 'volumes')
  await mkdir(folder, { recursive: true, mode: 0o710 })
  await makePassable(folder, config.idBase)
  await bindFolder(helper, folder, target)
}

/** What a pool needs of the host; each lack has its own reason and remedy. */
const checkHost = async (helper: VolumesHelper): Promise<void> => {
  const host = await helper.request('host.probe', {}, hostProbe)
  if (!host.loopControl)
    throw new PyroError(
      'host.missing-tool',
      'the host has no loop devices (/dev/loop-control), which the disk pool needs',
      {
        hint: 'modprobe loop',
      },
    )
  if (!host.btrfs)
    throw new PyroError(
      'host.missing-tool',
      `the kernel ${host.kernel} does not know btrfs, which the disk pool needs`,
      {
        hint: 'modprobe btrfs',
      },
    )
  try {
    await runProgram('mkfs.btrfs', ['--version'], { timeoutMs: TOOL_TIMEOUT_MS })
  } catch (error) {
    if (!isPyroError(error) || error.code !== 'host.missing-tool') throw error
    throw new PyroError('host.missing-tool', 'mkfs.btrfs is not installed, which makes the disk pool', {
      hint: 'apt-get install btrfs-progs',
      cause: error,
    })
  }
}

const exists = async (path: string): Promise<boolean> => {
  try {
    await stat(path)
    return true
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false
    throw error
  }
}
