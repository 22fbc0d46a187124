import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PyroError } from '@pyro/protocol'
import { z } from 'zod'
import { errnoOf } from '../process/identity.ts'
import { readMounts, type MountLine } from '../process/mountinfo.ts'
import { runProgram } from '../process/program.ts'
import { VOLUME_ID_PATTERN } from './disk-store.ts'
import type { DiskConfig } from './open-disk-store.ts'
import { isVolumesError, toPyroError, TREE_TIMEOUT_MS, VolumesHelper } from './volumes-helper.ts'

const TOOL_TIMEOUT_MS = 10_000
/** What the kernel appends to the name of a backing file that was removed. */
const DELETED = ' (deleted)'
/** Folders of the home that somebody may have put on a disk of its own. */
const MAY_BE_MOUNTED: readonly string[] = ['cache', 'commands', 'environments', 'logs', 'tmp', 'volumes']

const none = z.object({})

type Places = Pick<DiskConfig, 'home' | 'runtimeDir'>

export interface LoopDevice {
  /** `/dev/loop3` */
  readonly device: string
  readonly file: string
  /** The file has no name any more. */
  readonly deleted: boolean
}

/** Loop devices on files of this home, apart from the one that carries the volumes. */
export const strayLoops = async ({ home, runtimeDir }: Places): Promise<LoopDevice[]> => {
  const target = volumesFolder(runtimeDir)
  // Devices first: one that is attached between the two looks is mounted by the second.
  const loops = (await readLoops()).filter(({ file }) => file.startsWith(join(home, '/')))
  const used = new Set((await readMounts()).filter(({ point }) => point === target).map(({ source }) => source))
  return loops.filter(({ device }) => !used.has(device))
}

export interface StrayMount {
  readonly point: string
  readonly type: string
  /** False where it is not clear that we made it, or what hides below it. */
  readonly certain: boolean
}

/** Mounts at places of this home, apart from the one that shows the volumes; the innermost first. */
export const strayMounts = async ({ home, runtimeDir }: Places): Promise<StrayMount[]> =>
  judgeMounts(await readMounts(), { home, runtimeDir })

/** Each point once, however many mounts lie there. */
export const judgeMounts = (mounts: readonly MountLine[], { home, runtimeDir }: Places): StrayMount[] => {
  const target = volumesFolder(runtimeDir)
  const stray = new Map<string, StrayMount>()
  let shown = 0
  for (const { point, type } of mounts) {
    if (point === target && shown++ === 0) continue
    const isVolatile = point.startsWith(join(runtimeDir, '/'))
    if (isVolatile) stray.set(point, { point, type, certain: !isAtOrBelow(point, target) })
    else if (point.startsWith(join(home, '/')) && !MAY_BE_MOUNTED.some((name) => point === join(home, name)))
      stray.set(point, { point, type, certain: point.startsWith(join(home, 'tmp/')) })
  }
  return [...stray.values()].toReversed()
}

/** Something in the folder of the volumes that `DiskStore.list` may not show. */
export interface VolumeEntry {
  readonly name: string
  readonly path: string
  /** The volume that it is or would become; null for what a flush needs for a moment, and for what is none of ours. */
  readonly volume: string | null
  readonly kind: 'volume' | 'unfinished' | 'flush' | 'unknown'
}

export const volumeEntries = async (runtimeDir: string): Promise<VolumeEntry[]> => {
  const folder = volumesFolder(runtimeDir)
  return (await readdir(folder)).flatMap((name) => {
    const entry = classify(name)
    return entry === null ? [] : [{ name, path: join(folder, name), ...entry }]
  })
}

/** Null for what belongs to the store itself. */
const classify = (name: string): Pick<VolumeEntry, 'volume' | 'kind'> | null => {
  if (name === '.complete') return null
  if (VOLUME_ID_PATTERN.test(name)) return { volume: name, kind: 'volume' }
  if (name.startsWith('.new-')) return { volume: name.slice('.new-'.length), kind: 'unfinished' }
  return { volume: null, kind: name.startsWith('.flush-') ? 'flush' : 'unknown' }
}

/** Releases what nobody owns, with a helper of its own. */
export class DiskReleaser implements AsyncDisposable {
  readonly #helper: VolumesHelper

  constructor(agentPath: string) {
    this.#helper = new VolumesHelper(agentPath)
  }

  /** Never pulls the file from under a mount: a device in use goes with its last user. */
  async detach({ device, file, deleted }: LoopDevice): Promise<void> {
    try {
      if (!deleted) await this.#helper.request('loop.detach', { device, path: file }, none)
      else if (await isStill(device, file)) await detachNameless(device)
    } catch (error) {
      throw toPyroError(error, `detaching ${device}`)
    }
  }

  /** Lazy for what lies in the folder of a sandbox: dead processes may hold it a moment longer. */
  async unmount(target: string, options: { readonly lazy: boolean }): Promise<void> {
    try {
      await this.#helper.request('umount', { target, lazy: options.lazy }, none)
    } catch (error) {
      throw toPyroError(error, `unmounting ${target}`)
    }
  }

  /** A subvolume or a plain tree; never across a mount, never through a link. */
  async removeTree(path: string): Promise<void> {
    for (const op of ['subvolume.delete', 'tree.delete']) {
      try {
        await this.#helper.request(op, { path }, none, { timeoutMs: TREE_TIMEOUT_MS })
        return
      } catch (error) {
        if (!isVolumesError(error, 'not-found', 'not-supported')) throw toPyroError(error, `removing ${path}`)
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#helper.close()
  }
}

const volumesFolder = (runtimeDir: string): string => join(runtimeDir, 'volumes')

const isAtOrBelow = (path: string, folder: string): boolean => path === folder || path.startsWith(join(folder, '/'))

const readLoops = async (): Promise<LoopDevice[]> => {
  const names = (await readdir('/sys/block')).filter((name) => name.startsWith('loop'))
  const files = await Promise.all(names.map((name) => backingFile(name)))
  return names.flatMap((name, index) => {
    const file = files[index]
    if (file === null || file === undefined) return []
    const deleted = file.endsWith(DELETED)
    return [{ device: `/dev/${name}`, file: deleted ? file.slice(0, -DELETED.length) : file, deleted }]
  })
}

/** Null when nothing is attached. */
const backingFile = async (name: string): Promise<string | null> => {
  try {
    return (await readFile(`/sys/block/${name}/loop/backing_file`, 'utf8')).trimEnd()
  } catch (error) {
    const errno = errnoOf(error)
    if (errno === 'ENOENT' || errno === 'ENXIO' || errno === 'ENODEV') return null
    throw error
  }
}

const isStill = async (device: string, file: string): Promise<boolean> =>
  (await readLoops()).some((loop) => loop.device === device && loop.file === file && loop.deleted)

/** The helper tells devices by their file, which has no name here. */
const detachNameless = async (device: string): Promise<void> => {
  const { exitCode, stderr } = await runProgram('losetup', ['--detach', device], { timeoutMs: TOOL_TIMEOUT_MS })
  if (exitCode !== 0) throw new PyroError('internal', `detaching ${device} failed: ${stderr.trim()}`)
}
