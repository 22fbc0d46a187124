import { createHash } from 'node:crypto'
import { chmod, chown, readdir, rename, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { isPyroError, PyroError } from '@pyro/protocol'
import { z } from 'zod'
import {
  groupOf,
  volumeId,
  VOLUME_ID_PATTERN,
  type CloneOptions,
  type DiskSpace,
  type DiskStore,
  type Volume,
  type VolumeId,
  type VolumeUsage,
} from './disk-store.ts'
import type { PoolFile } from './pool-file.ts'
import { isVolumesError, toPyroError, TREE_TIMEOUT_MS, type VolumesHelper } from './volumes-helper.ts'
import { unmount } from './volume-folder.ts'

const MIB = 1024 * 1024
/** A volume this close to its limit counts as full. */
const FULL_MARGIN_BYTES = MIB
/** A clone costs metadata only, but whoever asks for one is about to write. */
const CLONE_ROOM_BYTES = 32 * MIB
/** The space of a removed volume comes back within half a minute. */
const ROOM_WAIT_MS = 30_000
const FLUSH_TIMEOUT_MS = 10 * 60_000
/** Made under this prefix and renamed when complete. What bears it when the store opens is half-made. */
const UNFINISHED = '.new-'
const MOMENTARY_PREFIXES = [UNFINISHED, '.flush-']

const none = z.object({})
const made = z.object({ subvolumeId: z.number() })
const shown = z.object({ subvolumeId: z.number(), readOnly: z.boolean() })
const deleted = z.object({ subvolumeIds: z.array(z.number()) })
const usage = z.object({ referencedBytes: z.number(), limitBytes: z.number().nullable() })
const quotaMode = z.object({ mode: z.enum(['off', 'simple', 'full']) })
const qgroupList = z.object({ qgroups: z.array(z.object({ qgroup: z.string() })) })

export interface BtrfsStoreOptions {
  /** Where the volumes are: the pool's mount point, or a folder of the host's btrfs bound there. */
  readonly folder: string
  /** Group, and owner of new trees, of the mapped root. */
  readonly idBase: number
  /** Null on the host's own btrfs: quotas of a filesystem that is not ours are left alone. */
  readonly pool: PoolFile | null
  readonly detail: string
}

/** Volumes as subvolumes: clone and freeze cost the same whatever the size. */
export class BtrfsStore implements DiskStore {
  readonly kind = 'btrfs'
  readonly fallback = null
  readonly enforcesLimit: boolean
  readonly detail: string
  readonly #helper: VolumesHelper
  readonly #folder: string
  readonly #idBase: number
  readonly #pool: PoolFile | null
  /** Deleted subvolumes whose space is not back yet, as far as this engine knows. */
  #deleted: number[] = []

  private constructor(helper: VolumesHelper, options: BtrfsStoreOptions, enforcesLimit: boolean) {
    this.#helper = helper
    this.#folder = options.folder
    this.#idBase = options.idBase
    this.#pool = options.pool
    this.detail = options.detail
    this.enforcesLimit = enforcesLimit
  }

  static async open(helper: VolumesHelper, options: BtrfsStoreOptions): Promise<BtrfsStore> {
    const enforcesLimit = options.pool !== null && (await enableQuota(helper, options.folder))
    const store = new BtrfsStore(helper, options, enforcesLimit)
    await store.#removeUnfinished()
    return store
  }

  async create(id: VolumeId): Promise<Volume> {
    const existing = await this.find(id)
    if (existing?.writable === false)
      throw new PyroError('path.exists', `volume ${id} exists already; nothing was changed`)
    if (existing !== null) await this.remove(id)
    return this.#make(`creating volume ${id}`, id, async (path) => {
      await this.#helper.request('subvolume.create', { path, inherit: [] }, made)
      await chown(path, this.#idBase, this.#idBase)
      await chmod(path, 0o755)
    })
  }

  async seal(id: VolumeId): Promise<Volume> {
    await this.#step(`sealing volume ${id}`, async () => {
      await this.#helper.request('filesystem.sync', { path: this.#folder }, none, { timeoutMs: FLUSH_TIMEOUT_MS })
      await this.#helper.request('subvolume.set-readonly', { path: this.path(id), readOnly: true }, none)
    })
    return this.#volume(id, false)
  }

  async clone(from: VolumeId, to: VolumeId, options: CloneOptions): Promise<Volume> {
    const existing = await this.find(to)
    if (existing !== null) return existing
    await this.makeRoom(CLONE_ROOM_BYTES)
    return this.#make(`cloning volume ${from} to ${to}`, to, async (path) => {
      const inherit = await this.#group(options.group)
      const request = { source: this.path(from), path, readOnly: false, inherit }
      await this.#helper.request('subvolume.snapshot', request, made)
      if (this.enforcesLimit && options.limitBytes !== null)
        await this.#helper.request('qgroup.limit', { path, qgroup: null, referencedBytes: options.limitBytes }, none)
    })
  }

  async freeze(from: VolumeId, to: VolumeId, options: { readonly group: string | null }): Promise<Volume> {
    const existing = await this.find(to)
    if (existing !== null) return existing
    await this.#step(`freezing volume ${from} as ${to}`, async () => {
      const inherit = await this.#group(options.group)
      const request = { source: this.path(from), path: this.path(to), readOnly: true, inherit }
      // It writes out first what is not on the disk yet.
      await this.#helper.request('subvolume.snapshot', request, made, { timeoutMs: FLUSH_TIMEOUT_MS })
    })
    return this.#volume(to, false)
  }

  async flush(id: VolumeId): Promise<void> {
    await this.#step(`flushing volume ${id}`, () =>
      this.#helper.request('subvolume.flush', { path: this.path(id) }, none, { timeoutMs: FLUSH_TIMEOUT_MS }),
    )
  }

  async remove(id: VolumeId): Promise<void> {
    await this.#delete(id)
    if (!this.enforcesLimit) return
    const group = groupOf(id)
    const names = await readdir(this.#folder)
    if (names.every((name) => !VOLUME_ID_PATTERN.test(name) || groupOf(volumeId(name)) !== group))
      await this.#removeGroup(qgroupOf(group))
  }

  async find(id: VolumeId): Promise<Volume | null> {
    try {
      const { readOnly } = await this.#helper.request('subvolume.show', { path: this.path(id) }, shown)
      return this.#volume(id, !readOnly)
    } catch (error) {
      if (isVolumesError(error, 'not-found')) return null
      throw toPyroError(error, `looking for volume ${id}`)
    }
  }

  async list(): Promise<readonly Volume[]> {
    const names = (await readdir(this.#folder)).filter((name) => VOLUME_ID_PATTERN.test(name))
    const volumes = await Promise.all(names.map((name) => this.find(volumeId(name))))
    return volumes.filter((volume) => volume !== null)
  }

  /** With simple quotas bytes stay charged to the volume that wrote them: an immutable one owns none by itself. */
  async usage(id: VolumeId): Promise<VolumeUsage> {
    if (!this.enforcesLimit) return { ownedBytes: null }
    const volume = await this.find(id)
    if (volume === null || !volume.writable) return { ownedBytes: null }
    const { referencedBytes } = await this.#qgroup(this.path(id), null)
    return { ownedBytes: referencedBytes }
  }

  async groupUsage(group: string): Promise<number | null> {
    if (!this.enforcesLimit) return null
    try {
      return (await this.#qgroup(this.#folder, qgroupOf(group))).referencedBytes
    } catch (error) {
      if (isVolumesError(error, 'not-found')) return null
      throw toPyroError(error, `measuring ${group}`)
    }
  }

  async isFull(id: VolumeId): Promise<boolean> {
    if ((await this.space()).freeBytes < FULL_MARGIN_BYTES) return true
    if (!this.enforcesLimit) return false
    const { referencedBytes, limitBytes } = await this.#qgroup(this.path(id), null)
    return limitBytes !== null && referencedBytes + FULL_MARGIN_BYTES >= limitBytes
  }

  async space(): Promise<DiskSpace> {
    const { bavail, blocks, bsize } = await statfs(this.#folder)
    return { freeBytes: bavail * bsize, totalBytes: blocks * bsize }
  }

  /** Space of volumes that were removed a moment ago is waited for before anybody is told that there is none. */
  async makeRoom(bytes: number): Promise<void> {
    try {
      await this.#findRoom(bytes)
    } catch (error) {
      if (this.#deleted.length === 0 || !isPyroError(error) || error.code !== 'disk.full') throw error
      await this.reclaimSpace({ timeoutMs: ROOM_WAIT_MS })
      await this.#findRoom(bytes)
    }
  }

  async #findRoom(bytes: number): Promise<void> {
    if (this.#pool !== null) return this.#pool.ensureFree(bytes)
    const { freeBytes } = await this.space()
    if (freeBytes < bytes)
      throw new PyroError(
        'disk.full',
        `the host's disk has ${freeBytes} bytes free, ${bytes} are needed; nothing was changed`,
      )
  }

  async reclaimSpace({ timeoutMs }: { readonly timeoutMs: number }): Promise<number> {
    const before = (await this.space()).freeBytes
    const subvolumeIds = this.#deleted
    try {
      await this.#helper.request(
        'cleaner.wait',
        { path: this.#folder, subvolumeIds, timeoutMs },
        z.object({ remaining: z.number() }),
        { timeoutMs: timeoutMs + 5_000 },
      )
      this.#deleted = this.#deleted.filter((one) => !subvolumeIds.includes(one))
      // Freed extents count as free once the transaction that freed them is written.
      await this.#helper.request('filesystem.sync', { path: this.#folder }, none, { timeoutMs: FLUSH_TIMEOUT_MS })
    } catch (error) {
      // What has come back by then is reported; the rest follows by itself.
      if (!isVolumesError(error, 'timed-out')) throw toPyroError(error, 'waiting for the space of removed volumes')
    }
    return Math.max(0, (await this.space()).freeBytes - before)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      if (this.#pool === null) await unmount(this.#helper, this.#folder)
      else await this.#pool.close()
    } finally {
      await this.#helper.close()
    }
  }

  /** Runs `build` on a name that nobody finds and gives the volume its own one when it is whole. */
  async #make(what: string, id: VolumeId, build: (path: string) => Promise<void>): Promise<Volume> {
    const unfinished = join(this.#folder, UNFINISHED + id)
    await this.#step(what, async () => {
      await this.#delete(UNFINISHED + id)
      try {
        await build(unfinished)
        await rename(unfinished, this.path(id))
      } catch (error) {
        await this.#delete(UNFINISHED + id)
        throw error
      }
    })
    return this.#volume(id, true)
  }

  async #step<T>(what: string, action: () => Promise<T>): Promise<T> {
    try {
      return await action()
    } catch (error) {
      throw toPyroError(error, what)
    }
  }

  async #delete(name: string): Promise<void> {
    try {
      const result = await this.#helper.request('subvolume.delete', { path: join(this.#folder, name) }, deleted, {
        timeoutMs: TREE_TIMEOUT_MS,
      })
      this.#deleted.push(...result.subvolumeIds)
    } catch (error) {
      if (!isVolumesError(error, 'not-found')) throw toPyroError(error, `removing volume ${name}`)
    }
  }

  /** Parent qgroup of a workspace, made when missing. */
  async #group(group: string | null): Promise<string[]> {
    if (group === null || !this.enforcesLimit) return []
    const qgroup = qgroupOf(group)
    try {
      await this.#helper.request('qgroup.create', { path: this.#folder, qgroup }, none)
    } catch (error) {
      if (!isVolumesError(error, 'exists')) throw error
    }
    return [qgroup]
  }

  #qgroup(path: string, qgroup: string | null): Promise<z.infer<typeof usage>> {
    return this.#helper.request('qgroup.usage', { path, qgroup }, usage)
  }

  /**
   * Stays while the cleaner still works on a member, and where a full filesystem has no room to forget it: it holds nothing, and the
   * next opening of the store removes it.
   */
  async #removeGroup(qgroup: string): Promise<void> {
    try {
      await this.#helper.request('qgroup.remove', { path: this.#folder, qgroup }, none)
    } catch (error) {
      if (!isVolumesError(error, 'not-found', 'busy', 'no-space'))
        throw toPyroError(error, `removing accounting group ${qgroup}`)
    }
  }

  async #removeUnfinished(): Promise<void> {
    const names = await readdir(this.#folder)
    for (const name of names) {
      if (MOMENTARY_PREFIXES.some((prefix) => name.startsWith(prefix))) await this.#delete(name)
    }
    if (!this.enforcesLimit) return
    const used = new Set(
      names.filter((name) => VOLUME_ID_PATTERN.test(name)).map((name) => qgroupOf(groupOf(volumeId(name)))),
    )
    const { qgroups } = await this.#helper.request('qgroup.list', { path: this.#folder }, qgroupList)
    for (const { qgroup } of qgroups) {
      if (!qgroup.startsWith('0/') && !used.has(qgroup)) await this.#removeGroup(qgroup)
    }
  }

  path(id: VolumeId): string {
    return join(this.#folder, id)
  }

  #volume(id: VolumeId, writable: boolean): Volume {
    return { id, path: this.path(id), writable }
  }
}

/** 48 bits name a group within level 1, so nothing has to remember which number a workspace has. */
const qgroupOf = (group: string): string => `1/${createHash('sha256').update(group).digest().readUIntBE(0, 6)}`

/** True when limits hold: simple quotas only, since classic ones make every snapshot take seconds. */
const enableQuota = async (helper: VolumesHelper, path: string): Promise<boolean> => {
  try {
    return (await helper.request('quota.enable', { path }, quotaMode)).mode === 'simple'
  } catch (error) {
    if (isVolumesError(error, 'not-supported', 'invalid')) return false
    throw toPyroError(error, 'turning on quotas of the pool')
  }
}
