import { rename, rm, stat, statfs } from 'node:fs/promises'
import { dirname } from 'node:path'
import { PyroError } from '@pyro/protocol'
import { z } from 'zod'
import { errnoOf } from '../process/identity.ts'
import { runProgram } from '../process/program.ts'
import { isVolumesError, toPyroError, TREE_TIMEOUT_MS, type VolumesHelper } from './volumes-helper.ts'
import { mountAt, unmount } from './volume-folder.ts'

const MIB = 1024 * 1024
/** The pool grows by whole multiples of this. */
const GRAIN_BYTES = 64 * MIB
/** The kernel resizes no btrfs to less. */
const SMALLEST_POOL_BYTES = 256 * MIB
const MKFS_TIMEOUT_MS = 60_000
/** How often the free space is looked at while it is short, and while there is plenty. */
const WATCH_SHORT_MS = 300
const WATCH_PLENTY_MS = 2_000

const none = z.object({})
const fileIdentity = z.object({ sizeBytes: z.number(), allocatedBytes: z.number() })
const sized = z.object({ sizeBytes: z.number() })
const attached = z.object({ device: z.string(), directIo: z.boolean() })
const devices = z.object({ devices: z.array(z.string()) })

export interface PoolOptions {
  readonly file: string
  /** Mount point. */
  readonly target: string
  /** The file starts with this much and grows by it. */
  readonly stepBytes: number
  /** It never grows when less than this would stay free on the host. */
  readonly reserveBytes: number
}

/**
 * A btrfs filesystem in a file of the host. Every byte of the file is allocated: a sparse pool on a host that runs full ends in
 * I/O errors and a filesystem that is read-only for everybody, while a pool that is full inside only lacks space.
 *
 * It grows online while the host keeps its reserve, and never shrinks.
 */
export class PoolFile {
  readonly #helper: VolumesHelper
  readonly #options: PoolOptions
  #growth: Promise<boolean> | null = null
  #watch: NodeJS.Timeout | null = null
  readonly #device: string

  private constructor(helper: VolumesHelper, options: PoolOptions, device: string) {
    this.#helper = helper
    this.#options = options
    this.#device = device
  }

  /** Makes the file when missing, mounts it where it is not mounted, finishes a growth that was cut off. */
  static async open(helper: VolumesHelper, options: PoolOptions): Promise<PoolFile> {
    await makeFile(helper, options)
    const device = await attach(helper, options)
    const pool = new PoolFile(helper, options, device)
    await pool.#takeFileSize()
    pool.#watchSpace()
    return pool
  }

  async sizeBytes(): Promise<number> {
    return (await stat(this.#options.file)).size
  }

  async freeBytes(): Promise<number> {
    const space = await statfs(this.#options.target)
    return space.bavail * space.bsize
  }

  /** Grows until `bytes` are free; `disk.full` when the host has to keep its reserve. */
  async ensureFree(bytes: number): Promise<void> {
    const free = await this.freeBytes()
    if (free >= bytes) return
    const { file, reserveBytes } = this.#options
    // What cannot succeed takes nothing from the host.
    if (free + (await hostRoom(file, reserveBytes)) >= bytes) await this.#grow(bytes - free)
    const now = await this.freeBytes()
    if (now >= bytes) return
    throw new PyroError(
      'disk.full',
      `the pool ${this.#options.file} has ${inMib(now)} MiB free, ${inMib(bytes)} MiB are needed, and the host must keep ${inMib(this.#options.reserveBytes)} MiB; nothing was changed`,
      { hint: 'free space on the host, delete workspaces or snapshots, or run: pyro env prune' },
    )
  }

  /** Stops watching and unmounts. A pool that sandboxes still use stays mounted for the next engine. */
  async close(): Promise<void> {
    if (this.#watch !== null) clearTimeout(this.#watch)
    this.#watch = null
    await this.#growth
    await unmount(this.#helper, this.#options.target)
  }

  #watchSpace(): void {
    const look = async (): Promise<void> => {
      const free = await this.freeBytes()
      // Growing starts well before the pool is full, and by a whole step: it neither runs late nor all the time.
      const isShort = free < this.#options.stepBytes / 2
      if (free < this.#options.stepBytes / 4) await this.#grow(this.#options.stepBytes)
      next(isShort ? WATCH_SHORT_MS : WATCH_PLENTY_MS)
    }
    const next = (delayMs: number): void => {
      this.#watch = setTimeout(() => {
        if (this.#watch === null) return
        look().catch((_error: unknown) => next(WATCH_PLENTY_MS))
      }, delayMs)
      this.#watch.unref()
    }
    next(WATCH_SHORT_MS)
  }

  /** True when the pool became larger. One growth at a time; those who come meanwhile share it. */
  #grow(bytes: number): Promise<boolean> {
    this.#growth ??= this.#growOnce(bytes).finally(() => (this.#growth = null))
    return this.#growth
  }

  async #growOnce(bytes: number): Promise<boolean> {
    const { file, stepBytes, reserveBytes } = this.#options
    const wanted = Math.ceil(bytes / stepBytes) * stepBytes
    const more = Math.min(wanted, await hostRoom(file, reserveBytes))
    if (more < Math.min(GRAIN_BYTES, stepBytes)) return false
    try {
      await this.#helper.request('file.allocate', { path: file, sizeBytes: (await this.sizeBytes()) + more }, sized, {
        timeoutMs: TREE_TIMEOUT_MS,
      })
    } catch (error) {
      if (isVolumesError(error, 'no-space')) return false
      throw error
    }
    await this.#takeFileSize()
    return true
  }

  /** Device and filesystem become as large as the file; repeats what a crash cut off. */
  async #takeFileSize(): Promise<void> {
    const { file, target } = this.#options
    await this.#helper.request('loop.resize', { device: this.#device, path: file }, sized)
    await this.#helper.request('filesystem.resize', { path: target, sizeBytes: null }, sized)
  }
}

/** What the host can give without touching its reserve, in whole grains. */
const hostRoom = async (file: string, reserveBytes: number): Promise<number> => {
  const host = await statfs(dirname(file))
  const room = host.bavail * host.bsize - reserveBytes
  return room < GRAIN_BYTES ? Math.max(room, 0) : Math.floor(room / GRAIN_BYTES) * GRAIN_BYTES
}

/** The file gets its name when it holds a filesystem: a half-made one is made again. */
const makeFile = async (helper: VolumesHelper, options: PoolOptions): Promise<void> => {
  const { file, stepBytes, reserveBytes } = options
  if (await exists(file)) {
    await reallocate(helper, file)
    return
  }
  const made = `${file}.new`
  await rm(made, { force: true })
  const sizeBytes = Math.min(Math.max(stepBytes, SMALLEST_POOL_BYTES), await hostRoom(file, reserveBytes))
  if (sizeBytes < SMALLEST_POOL_BYTES)
    throw new PyroError(
      'disk.full',
      `no room for the pool ${file}: the host must keep ${inMib(reserveBytes)} MiB free; nothing was changed`,
      { hint: 'free space on the host, or lower PYRO_HOST_RESERVE_MIB' },
    )
  try {
    await helper.request('file.allocate', { path: made, sizeBytes }, fileIdentity, { timeoutMs: TREE_TIMEOUT_MS })
    // -K: no discard, which would punch the allocated file full of holes. Single metadata: the file's own disk keeps it safe.
    const mkfs = await runProgram(
      'mkfs.btrfs',
      ['-q', '-K', '-f', '-d', 'single', '-m', 'single', '-L', 'pyro', made],
      {
        timeoutMs: MKFS_TIMEOUT_MS,
      },
    )
    if (mkfs.exitCode !== 0) throw new PyroError('internal', `making the pool ${file} failed: ${mkfs.stderr.trim()}`)
    await rename(made, file)
  } catch (error) {
    await rm(made, { force: true })
    throw toPyroError(error, `making the pool ${file}`)
  }
}

/** Closes holes that somebody punched or a copy left out, as far as the host has room. */
const reallocate = async (helper: VolumesHelper, file: string): Promise<void> => {
  const { sizeBytes, allocatedBytes } = await helper.request('file.identity', { path: file }, fileIdentity)
  if (allocatedBytes >= sizeBytes) return
  try {
    await helper.request('file.allocate', { path: file, sizeBytes }, fileIdentity, { timeoutMs: TREE_TIMEOUT_MS })
  } catch (error) {
    if (!isVolumesError(error, 'no-space')) throw error
  }
}

/** Returns the loop device that is mounted at the target. */
const attach = async (helper: VolumesHelper, { file, target }: PoolOptions): Promise<string> => {
  const mounted = await mountAt(helper, target)
  if (mounted !== null) {
    const ours = await helper.request('loop.find', { path: file }, devices)
    if (mounted.type === 'btrfs' && ours.devices.includes(mounted.source)) return mounted.source
    if (!(await unmount(helper, target)))
      throw new PyroError('internal', `something else is mounted at ${target} and in use; nothing was changed`)
  }
  try {
    const { device } = await helper.request('loop.attach', { path: file, directIo: true }, attached)
    await helper.request('mount', { source: device, target, type: 'btrfs', options: ['noatime', 'nodiscard'] }, none)
    return device
  } catch (error) {
    throw toPyroError(error, `mounting the pool ${file}`)
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

const inMib = (bytes: number): number => Math.floor(bytes / MIB)
