import { chmod, chown, mkdir, open, readdir, readFile, rename, rm, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { PyroError } from '@pyro/protocol'
import { z } from 'zod'
import { errnoOf } from '../process/identity.ts'
import {
  volumeId,
  VOLUME_ID_PATTERN,
  type CloneOptions,
  type DiskSpace,
  type DiskStore,
  type Volume,
  type VolumeId,
  type VolumeUsage,
} from './disk-store.ts'
import { isVolumesError, toPyroError, TREE_TIMEOUT_MS, type VolumesHelper } from './volumes-helper.ts'
import { unmount } from './volume-folder.ts'

const MIB = 1024 * 1024
const FULL_MARGIN_BYTES = MIB
const SYNC_TIMEOUT_MS = 10 * 60_000
/** `<folder>/.complete/<volume>`: what has no marker is half-made, is never found and is removed when the store opens. */
const MARKERS = '.complete'

const none = z.object({})
const entries = z.object({ entries: z.number() })
const marker = z.strictObject({ writable: z.boolean() })

export interface CopyStoreOptions {
  /** Where the volumes are: a folder of the home bound below the runtime folder. */
  readonly folder: string
  readonly idBase: number
  readonly detail: string
  readonly fallback: PyroError | null
}

/** Volumes as plain folders on any filesystem: a clone is a copy, sharing extents where the filesystem can. No limits. */
export class CopyStore implements DiskStore {
  readonly kind = 'copy'
  readonly enforcesLimit = false
  readonly detail: string
  readonly fallback: PyroError | null
  readonly #helper: VolumesHelper
  readonly #folder: string
  readonly #idBase: number

  private constructor(helper: VolumesHelper, options: CopyStoreOptions) {
    this.#helper = helper
    this.#folder = options.folder
    this.#idBase = options.idBase
    this.detail = options.detail
    this.fallback = options.fallback
  }

  static async open(helper: VolumesHelper, options: CopyStoreOptions): Promise<CopyStore> {
    const store = new CopyStore(helper, options)
    await mkdir(join(options.folder, MARKERS), { recursive: true, mode: 0o700 })
    await store.#removeUnfinished()
    return store
  }

  async create(id: VolumeId): Promise<Volume> {
    const existing = await this.find(id)
    if (existing?.writable === false)
      throw new PyroError('path.exists', `volume ${id} exists already; nothing was changed`)
    await this.remove(id)
    await mkdir(this.path(id), { mode: 0o755 })
    await chmod(this.path(id), 0o755)
    await chown(this.path(id), this.#idBase, this.#idBase)
    return this.#complete(id, true)
  }

  async seal(id: VolumeId): Promise<Volume> {
    await this.#sync(`sealing volume ${id}`)
    return this.#complete(id, false)
  }

  clone(from: VolumeId, to: VolumeId, _options: CloneOptions): Promise<Volume> {
    return this.#copy(`cloning volume ${from} to ${to}`, from, to, true)
  }

  freeze(from: VolumeId, to: VolumeId, _options: { readonly group: string | null }): Promise<Volume> {
    return this.#copy(`freezing volume ${from} as ${to}`, from, to, false)
  }

  /** Nothing: a copy reads what the kernel holds back as well as what is on the disk. */
  async flush(_id: VolumeId): Promise<void> {}

  async remove(id: VolumeId): Promise<void> {
    await rm(this.#marker(id), { force: true })
    await this.#deleteTree(id)
  }

  async find(id: VolumeId): Promise<Volume | null> {
    let text: string
    try {
      text = await readFile(this.#marker(id), 'utf8')
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return null
      throw error
    }
    return this.#volume(id, marker.parse(JSON.parse(text)).writable)
  }

  async list(): Promise<readonly Volume[]> {
    const names = (await readdir(join(this.#folder, MARKERS))).filter((name) => VOLUME_ID_PATTERN.test(name))
    const volumes = await Promise.all(names.map((name) => this.find(volumeId(name))))
    return volumes.filter((volume) => volume !== null)
  }

  /** Unknown: which extents are shared cannot be told here. */
  async usage(_id: VolumeId): Promise<VolumeUsage> {
    return { ownedBytes: null }
  }

  async groupUsage(_group: string): Promise<number | null> {
    return null
  }

  async isFull(_id: VolumeId): Promise<boolean> {
    return (await this.space()).freeBytes < FULL_MARGIN_BYTES
  }

  async space(): Promise<DiskSpace> {
    const { bavail, blocks, bsize } = await statfs(this.#folder)
    return { freeBytes: bavail * bsize, totalBytes: blocks * bsize }
  }

  async makeRoom(bytes: number): Promise<void> {
    const { freeBytes } = await this.space()
    if (freeBytes < bytes)
      throw new PyroError(
        'disk.full',
        `the disk of the host has ${freeBytes} bytes free, ${bytes} are needed; nothing was changed`,
        { hint: 'free space on the host, delete workspaces or snapshots, or run: pyro env prune' },
      )
  }

  /** Space is back when `remove` returns. */
  async reclaimSpace(_options: { readonly timeoutMs: number }): Promise<number> {
    return 0
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await unmount(this.#helper, this.#folder)
    } finally {
      await this.#helper.close()
    }
  }

  async #copy(what: string, from: VolumeId, to: VolumeId, writable: boolean): Promise<Volume> {
    const existing = await this.find(to)
    if (existing !== null) return existing
    try {
      await this.#deleteTree(to)
      const request = { source: this.path(from), path: this.path(to) }
      await this.#helper.request('tree.copy', request, entries, { timeoutMs: TREE_TIMEOUT_MS })
      if (!writable) await this.#sync(what)
    } catch (error) {
      await this.#deleteTree(to)
      throw toPyroError(error, what)
    }
    return this.#complete(to, writable)
  }

  /** A marker must never outlive a power cut that the data did not. */
  async #sync(what: string): Promise<void> {
    try {
      await this.#helper.request('filesystem.sync', { path: this.#folder }, none, { timeoutMs: SYNC_TIMEOUT_MS })
    } catch (error) {
      throw toPyroError(error, what)
    }
  }

  async #complete(id: VolumeId, writable: boolean): Promise<Volume> {
    const path = this.#marker(id)
    const file = await open(`${path}.new`, 'w', 0o600)
    try {
      await file.writeFile(JSON.stringify({ writable }))
      if (!writable) await file.sync()
    } finally {
      await file.close()
    }
    await rename(`${path}.new`, path)
    return this.#volume(id, writable)
  }

  async #deleteTree(name: string): Promise<void> {
    try {
      await this.#helper.request('tree.delete', { path: join(this.#folder, name) }, entries, {
        timeoutMs: TREE_TIMEOUT_MS,
      })
    } catch (error) {
      if (!isVolumesError(error, 'not-found')) throw toPyroError(error, `removing volume ${name}`)
    }
  }

  async #removeUnfinished(): Promise<void> {
    const complete = new Set(await readdir(join(this.#folder, MARKERS)))
    for (const name of await readdir(this.#folder)) {
      if (VOLUME_ID_PATTERN.test(name) && !complete.has(name)) await this.#deleteTree(name)
    }
    for (const name of complete) {
      if (name.endsWith('.new')) await rm(join(this.#folder, MARKERS, name), { force: true })
    }
  }

  path(id: VolumeId): string {
    return join(this.#folder, id)
  }

  #marker(id: VolumeId): string {
    return join(this.#folder, MARKERS, id)
  }

  #volume(id: VolumeId, writable: boolean): Volume {
    return { id, path: this.path(id), writable }
  }
}
