import { chmod, chown, mkdir, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { PyroError } from '@pyro/protocol'
import { z } from 'zod'
import { isVolumesError, type VolumesHelper } from './volumes-helper.ts'

const none = z.object({})
const mountList = z.object({
  mounts: z.array(z.object({ target: z.string(), source: z.string(), type: z.string() })),
})

export interface MountEntry {
  readonly target: string
  /** Device for a filesystem, as /proc/self/mountinfo names it. */
  readonly source: string
  readonly type: string
}

/** The topmost mount exactly at this path, or null. */
export const mountAt = async (helper: VolumesHelper, target: string): Promise<MountEntry | null> => {
  const { mounts } = await helper.request('mount.list', { prefix: target }, mountList)
  return mounts.findLast((mount) => mount.target === target) ?? null
}

/** False when it is in use: then it stays mounted and nothing is lost. */
export const unmount = async (helper: VolumesHelper, target: string): Promise<boolean> => {
  try {
    await helper.request('umount', { target, lazy: false }, none)
    return true
  } catch (error) {
    if (isVolumesError(error, 'not-found')) return true
    if (isVolumesError(error, 'busy')) return false
    throw error
  }
}

/** The mapped root passes, nobody else: a folder on the way to a tree. */
export const makePassable = async (path: string, gid: number): Promise<void> => {
  await chown(path, 0, gid)
  await chmod(path, 0o710)
}

/** The folder all homes share, the folder of this home and the mount point below it. */
export const makeRuntimeFolders = async (runtimeDir: string, target: string): Promise<void> => {
  await mkdir(dirname(runtimeDir), { recursive: true, mode: 0o711 })
  for (const path of [dirname(runtimeDir), runtimeDir]) {
    await mkdir(path, { recursive: true, mode: 0o711 })
    // A umask may have taken bits; a folder such as /tmp that others made keeps its wider mode.
    const mode = (await stat(path)).mode & 0o7777
    if ((mode & 0o711) !== 0o711) await chmod(path, mode | 0o711)
  }
  await mkdir(target, { recursive: true, mode: 0o710 })
}

/** Shows `folder` at `target`, once: a mount that is there already is told by the identity of the folder, not by names. */
export const bindFolder = async (helper: VolumesHelper, folder: string, target: string): Promise<void> => {
  if (await isSameFolder(folder, target)) return
  if ((await mountAt(helper, target)) !== null && !(await unmount(helper, target)))
    throw new PyroError('internal', `something else is mounted at ${target} and in use; nothing was changed`)
  await helper.request('mount.bind', { source: folder, target }, none)
}

export const isSameFolder = async (one: string, other: string): Promise<boolean> => {
  const [a, b] = await Promise.all([stat(one), stat(other)])
  return a.dev === b.dev && a.ino === b.ino
}
