import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, realpath, rm, rmdir, statfs } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { openDiskStore, type DiskConfig, type DiskStore, type VolumeId } from '@pyro/engine'
import type { DiskStorePlace } from './disk-store-suite.ts'

const run = promisify(execFile)
const MIB = 1024 * 1024
const HOST_BTRFS_BYTES = 768 * MIB

export const ID_BASE = 0x40000000

export interface PlaceOptions {
  readonly agentPath: string
  readonly disk: 'btrfs' | 'copy'
  readonly poolStepBytes?: number
  readonly hostReserveBytes?: number
  /** Puts the home on a btrfs filesystem of its own: what a host with btrfs has. */
  readonly onBtrfs?: boolean
}

export interface HomePlace extends DiskStorePlace {
  readonly home: string
  readonly config: DiskConfig
}

/** A home in a temporary folder, with everything needed to see from outside what a store makes and leaves. */
export const temporaryPlace = async (options: PlaceOptions): Promise<HomePlace> => {
  const root = await realpath(await mkdtemp(join(tmpdir(), 'pyro-disks-')))
  const home = join(root, 'home')
  const runtimeDir = join(root, 'run', 'place')
  await mkdir(home)
  if (options.onBtrfs === true) await mountBtrfs(join(root, 'host.btrfs'), home)
  const config: DiskConfig = {
    home,
    runtimeDir,
    disk: options.disk,
    poolStepBytes: options.poolStepBytes ?? 512 * MIB,
    hostReserveBytes: options.hostReserveBytes ?? 64 * MIB,
    idBase: ID_BASE,
  }
  const volumes = join(runtimeDir, 'volumes')
  const killHelper = async (): Promise<void> => {
    for (const pid of await helperPids(options.agentPath)) process.kill(pid, 'SIGKILL')
    while ((await helperPids(options.agentPath)).length > 0) await new Promise((resolve) => setTimeout(resolve, 10))
  }
  return {
    home,
    runtimeDir,
    config,
    killHelper,
    open: (): Promise<DiskStore> => openDiskStore(config, { agentPath: options.agentPath }),
    async reboot() {
      await killHelper()
      await run('umount', [volumes])
      await rmdir(volumes)
      await rmdir(runtimeDir)
    },
    plantUnfinished: (id: VolumeId) => plantUnfinished(volumes, id, options.disk),
    async leftovers() {
      const mounts = await run('findmnt', ['--raw', '--noheadings', '--output', 'TARGET'])
      const loops = await run('losetup', ['--list', '--noheadings', '--output', 'NAME,BACK-FILE'])
      const lines = `${mounts.stdout}\n${loops.stdout}`.split('\n').filter((line) => line.includes(root))
      const own = [home, 'host.btrfs']
      const helpers = await helperPids(options.agentPath)
      return [
        ...lines.filter((line) => !own.some((part) => line.endsWith(part))),
        ...helpers.map((pid) => `helper ${pid}`),
      ]
    },
    async [Symbol.asyncDispose]() {
      if (options.onBtrfs === true) await run('umount', [home])
      await rm(root, { recursive: true, force: true })
    },
  }
}

const mountBtrfs = async (file: string, target: string): Promise<void> => {
  await run('fallocate', ['-l', `${HOST_BTRFS_BYTES}`, file])
  await run('mkfs.btrfs', ['-q', '-K', file])
  await run('mount', ['-o', 'loop', file, target])
}

const plantUnfinished = async (volumes: string, id: VolumeId, disk: 'btrfs' | 'copy'): Promise<void> => {
  if (disk === 'copy') await mkdir(join(volumes, id, 'half'), { recursive: true })
  else await run('btrfs', ['subvolume', 'create', join(volumes, `.new-${id}`)])
}

/** Volumes helpers that this process started. */
const helperPids = async (agentPath: string): Promise<number[]> => {
  const { stdout } = await run('ps', ['-o', 'pid=,stat=,args=', '--ppid', `${process.pid}`])
  return stdout
    .split('\n')
    .filter((line) => line.includes(`${agentPath} volumes`) && !/^\s*\d+\s+Z/.test(line))
    .map((line) => Number(line.trim().split(/\s+/)[0]))
}

export const freeBytes = async (path: string): Promise<number> => {
  const space = await statfs(path)
  return space.bavail * space.bsize
}
