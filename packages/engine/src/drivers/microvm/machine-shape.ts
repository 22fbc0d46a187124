import { constants } from 'node:fs'
import { open, stat } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { PyroError } from '@pyro/protocol'
import { DISK_FILE, type Volume } from '../../disk/disk-store.ts'
import type { SandboxSpec } from '../../driver/driver.ts'
import { errnoOf } from '../../process/identity.ts'

/** Where files of ours stand in the root of a VMM. */
export const SEEN = {
  kernel: '/pyro/vmlinuz',
  initramfs: '/pyro/initramfs.img',
  memory: '/pyro/memory',
  channel: '/pyro/channel',
  socket: '/pyro/channel/engine.sock',
} as const

export interface OpenedDisk {
  /** Past the host's page cache. */
  readonly direct: boolean
  readonly writable: boolean
}

export interface MachineDisk extends OpenedDisk {
  readonly path: string
  readonly bytes: number
}

/**
 * Processors of the machine.
 *
 * @throws PyroError `limit.exceeded` for a part of one, and for more than the host has
 */
export const vcpusOf = ({ vcpus }: SandboxSpec): number => {
  const host = availableParallelism()
  if (!Number.isInteger(vcpus)) {
    throw new PyroError('limit.exceeded', `a machine has whole processors, not ${vcpus}; no machine was made`, {
      hint: `--vcpus ${Math.min(host, Math.ceil(vcpus))}`,
      data: { limit: 'vcpus', max: host },
    })
  }
  if (vcpus <= host) return vcpus
  throw new PyroError(
    'limit.exceeded',
    `a machine of ${vcpus} processors does not fit this host of ${host}; no machine was made`,
    {
      hint: `--vcpus ${host}`,
      data: { limit: 'vcpus', max: host },
    },
  )
}

/** The disks of a sandbox in their order, the root first. */
export const disksOf = ({ inspects, volume }: SandboxSpec): Promise<MachineDisk[]> =>
  Promise.all((inspects.length > 0 ? inspects : [volume]).map(diskOf))

const diskOf = async ({ path: folder, writable }: Volume): Promise<MachineDisk> => {
  const path = join(folder, DISK_FILE)
  const { size: bytes } = await stat(path)
  return { path, bytes, writable, direct: await canPassByCache(path) }
}

/** Not on every filesystem (tmpfs). */
const canPassByCache = async (disk: string): Promise<boolean> => {
  try {
    await using _file = await open(disk, constants.O_RDONLY | constants.O_DIRECT)
    return true
  } catch (error) {
    if (errnoOf(error) === 'EINVAL') return false
    throw error
  }
}

/**
 * Of the guest: its kernel, and its agent with what it may keep of output. What was asked for is for commands, to the last page: a
 * kernel that finds no memory for itself gives up.
 */
const GUEST_MIB = 160
/** Descriptions of pages take a part of all memory. */
const GUEST_PART = 32

/** Memory of the whole machine. */
export const machineMib = (memoryMib: number): number => memoryMib + GUEST_MIB + Math.ceil(memoryMib / GUEST_PART)
