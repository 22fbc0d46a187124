import { randomUUID } from 'node:crypto'
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { isPyroError, PyroError, type Progress } from '@pyro/protocol'
import { filesystemOf, makeDiskImage } from '../disk/disk-image.ts'
import { DISK_FILE, environmentVolume, imageVolume, type DiskStore, type VolumeId } from '../disk/disk-store.ts'
import { nowText } from '../lib/wait.ts'
import type { ArchiveLimits, OfflineProgress } from '../offline/offline-agent.ts'
import type { RoleHost } from '../offline/roles.ts'
import { unpackArchive, type Unpacked } from '../offline/unpack.ts'
import {
  compressArchive,
  expandArchive,
  sha256Hex,
  takeOverFile,
  typedHostError,
  type PlainArchive,
} from './archive.ts'
import { ociPlatform } from './catalog.ts'
import { digestHex, type Library, type Manifest } from './library.ts'

const MIB = 1024 * 1024
const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
/** A tree takes more than its tar where files are small. */
const UNPACKED_FACTOR = 1.2
/** A disk takes more than its tar, too: blocks of 4 KiB, a journal and tables of inodes. What is proposed is a multiple of the step. */
const DISK_FACTOR = 1.3
const DISK_STEP_MIB = 64
const PROGRESS_INTERVAL_MS = 200
/** Processes that were killed take a moment to let go of their folder: 1.5 s in all. */
const REMOVAL = { recursive: true, force: true, maxRetries: 5, retryDelay: 100 } as const

export interface InstallSource {
  /** The plain archive, a file of ours. */
  readonly path: string
  readonly archive: PlainArchive
  readonly image: string | null
  /** The same archive compressed already; then that file is taken over (moved). */
  readonly compressedPath: string | null
  /** For progress. */
  readonly name: string
}

export interface InstallOptions {
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: ((progress: Progress) => void) | undefined
}

export interface InstallerOptions {
  readonly library: Library
  readonly disks: DiskStore
  readonly host: RoleHost
  readonly limits: ArchiveLimits
  /** Emptied when the installer opens. */
  readonly temporaryFolder: string
}

/** Turns archives into immutable volumes with manifests. An archive that is installed already is not installed again. */
export class Installer {
  readonly #options: InstallerOptions
  /** One installation of a digest at a time; the next one finds it done. */
  readonly #underWay = new Map<string, Promise<unknown>>()
  /** Temporary folders in use. */
  readonly #folders = new Set<string>()

  private constructor(options: InstallerOptions) {
    this.#options = options
  }

  static async open(options: InstallerOptions): Promise<Installer> {
    await rm(options.temporaryFolder, REMOVAL)
    await mkdir(options.temporaryFolder, { recursive: true, mode: 0o700 })
    return new Installer(options)
  }

  /** Volumes of installations under way. */
  volumes(): VolumeId[] {
    return [...this.#underWay.keys()].map((digest) => environmentVolume(digestHex(digest)))
  }

  /** Temporary folders of what is under way. */
  folders(): string[] {
    return [...this.#folders]
  }

  /** Runs `action` with a folder of its own that is gone afterwards. A host without space for it is `disk.full`. */
  async withTemporaryFolder<T>(action: (folder: string) => Promise<T>): Promise<T> {
    const folder = join(this.#options.temporaryFolder, `env-${randomUUID()}`)
    this.#folders.add(folder)
    try {
      await mkdir(folder, { mode: 0o700 })
      return await action(folder)
    } catch (error) {
      throw typedHostError(error)
    } finally {
      await rm(folder, REMOVAL)
      this.#folders.delete(folder)
    }
  }

  install(source: InstallSource, options: InstallOptions): Promise<Manifest> {
    const digest = digestOf(source)
    return this.#oneAtATime(digest, () => this.#install(digest, source, options))
  }

  /** Runs `action` while nothing of this digest is being installed or unpacked. */
  alone<T>(digest: string, action: () => Promise<T>): Promise<T> {
    return this.#oneAtATime(digest, action)
  }

  /** The volume of an installed archive, unpacked again when the disk store has lost it. */
  ensureVolume(manifest: Manifest, options: InstallOptions): Promise<VolumeId> {
    return this.#oneAtATime(manifest.digest, async () => {
      const id = environmentVolume(digestHex(manifest.digest))
      if (await this.#isSealed(id)) return id
      await this.withTemporaryFolder(async (folder) => {
        const path = join(folder, 'rootfs.tar')
        const archivePath = this.#options.library.archivePath(manifest.digest)
        await expandArchive(archivePath, path, manifest.archiveDigestHex, options.signal)
        await this.#unpack(id, { path, image: manifest.image, name: id, bytes: manifest.archiveBytes }, options)
      })
      return id
    })
  }

  /** The disk image of an installed archive, made when first asked for. */
  ensureImage(manifest: Manifest, diskMib: number, options: InstallOptions): Promise<VolumeId> {
    return this.#oneAtATime(manifest.digest, async () => {
      const { disks, host } = this.#options
      const hex = digestHex(manifest.digest)
      const id = imageVolume(hex, diskMib)
      if (await this.#isSealed(id)) return id
      options.onProgress?.({
        step: 'making the disk image',
        done: 0,
        total: null,
        unit: 'bytes',
        detail: manifest.digest,
      })
      await disks.makeRoom(Math.ceil(manifest.bytes * UNPACKED_FACTOR))
      await disks.remove(id)
      const volume = await disks.create(id)
      try {
        await makeDiskImage(
          host,
          {
            tree: disks.path(environmentVolume(hex)),
            file: join(volume.path, DISK_FILE),
            bytes: diskMib * MIB,
            uuid: filesystemOf(manifest.digest),
            label: null,
          },
          options.signal,
        )
        await disks.seal(id)
        return id
      } catch (error) {
        await disks.remove(id)
        throw tooSmall(error, manifest.bytes, diskMib) ?? error
      }
    })
  }

  async #install(digest: string, source: InstallSource, options: InstallOptions): Promise<Manifest> {
    const { library, disks } = this.#options
    const id = environmentVolume(digestHex(digest))
    const known = library.manifests().get(digest)
    if (known !== undefined && (await this.#isSealed(id))) return known
    const staged = await library.stagingFolder(digest)
    try {
      const [unpacked, compressedBytes] = await together(options.signal, (signal) => [
        this.#unpack(id, { ...source, bytes: source.archive.bytes }, { ...options, signal }),
        keepArchive(source, join(staged, 'rootfs.tar.zst'), signal),
      ])
      const manifest: Manifest = {
        format: 1,
        digest,
        kind: unpacked.kind,
        platform: ociPlatform(),
        files: unpacked.files,
        bytes: unpacked.bytes,
        skippedDevices: unpacked.skippedDevices,
        archiveBytes: source.archive.bytes,
        compressedBytes,
        image: source.image,
        env: { PATH: DEFAULT_PATH, ...variables(unpacked.env) },
        user: unpacked.user === '' ? 'root' : unpacked.user,
        workingDir: unpacked.workingDir,
        packages: unpacked.packages,
        archiveDigestHex: source.archive.digestHex,
        createdAt: nowText(),
      }
      if (known === undefined) await library.add(manifest, staged)
      return manifest
    } catch (error) {
      await disks.remove(id)
      throw error
    } finally {
      await rm(staged, { recursive: true, force: true })
    }
  }

  async #unpack(
    id: VolumeId,
    source: { readonly path: string; readonly image: string | null; readonly name: string; readonly bytes: number },
    options: InstallOptions,
  ): Promise<Unpacked> {
    const { disks, host, limits } = this.#options
    await disks.makeRoom(Math.ceil(source.bytes * UNPACKED_FACTOR))
    // A writable one is what an engine left that was killed under an installation.
    if (await this.#isSealed(id)) await disks.remove(id)
    const volume = await disks.create(id)
    try {
      const { path: archivePath, image } = source
      const request = { volume: volume.path, archivePath, image, platform: ociPlatform(), limits }
      const onProgress = throttled(({ bytes }: OfflineProgress) =>
        options.onProgress?.({
          step: `unpacking ${source.name}`,
          done: Math.min(bytes, source.bytes),
          total: source.bytes,
          unit: 'bytes',
          detail: null,
        }),
      )
      const { signal } = options
      const unpacked = await unpackArchive(host, request, {
        ...(signal === undefined ? {} : { signal }),
        onProgress,
      }).catch((error: unknown) => {
        signal?.throwIfAborted()
        throw refused(error)
      })
      await disks.seal(id)
      return unpacked
    } catch (error) {
      await disks.remove(id)
      throw error
    }
  }

  async #isSealed(id: VolumeId): Promise<boolean> {
    return (await this.#options.disks.find(id))?.writable === false
  }

  async #oneAtATime<T>(digest: string, action: () => Promise<T>): Promise<T> {
    const before = this.#underWay.get(digest) ?? Promise.resolve()
    // Whoever waited for the one before has its error; ours begins whatever became of it.
    const mine = before.then(action, action)
    this.#underWay.set(digest, mine)
    try {
      return await mine
    } finally {
      if (this.#underWay.get(digest) === mine) this.#underWay.delete(digest)
    }
  }
}

/** What was found wrong with an archive, and what became of it. */
const refused = (error: unknown): unknown => {
  if (!isPyroError(error) || error.code === 'internal') return error
  const { code, message, data } = error
  return new PyroError(code, `${message}; nothing was installed`, {
    hint: code === 'archive.too-large' ? 'import less; docs/public-contract.md lists the limits' : undefined,
    data: data ?? undefined,
    cause: error,
  })
}

/** Two images of one archive are two environments. */
export const digestOf = ({ archive, image }: InstallSource): string => {
  if (image === null) return `sha256:${archive.digestHex}`
  return `sha256:${sha256Hex(`${archive.digestHex}\n${image}`)}`
}

const keepArchive = async (source: InstallSource, to: string, signal: AbortSignal | undefined): Promise<number> => {
  if (source.compressedPath === null) return (await compressArchive(source.path, to, signal)).compressedBytes
  return takeOverFile(source.compressedPath, to)
}

const variables = (list: readonly string[]): Record<string, string> =>
  Object.fromEntries(
    list.flatMap((text) => {
      const at = text.indexOf('=')
      return at > 0 ? [[text.slice(0, at), text.slice(at + 1)]] : []
    }),
  )

/** Both or none: the failure of one aborts the other, and nobody works on when this returns. */
const together = async <A, B>(
  outer: AbortSignal | undefined,
  start: (signal: AbortSignal) => readonly [Promise<A>, Promise<B>],
): Promise<[A, B]> => {
  const failed = new AbortController()
  const both = start(outer === undefined ? failed.signal : AbortSignal.any([outer, failed.signal]))
  try {
    return await Promise.all(both)
  } catch (error) {
    failed.abort(error)
    await Promise.allSettled(both)
    throw error
  }
}

const throttled = <T>(report: (value: T) => void): ((value: T) => void) => {
  let reportedAtMs = 0
  return (value) => {
    const nowMs = Date.now()
    if (nowMs - reportedAtMs < PROGRESS_INTERVAL_MS) return
    reportedAtMs = nowMs
    report(value)
  }
}

/** Why an environment of so many bytes did not fit on a disk; null: the disk should have done. */
const tooSmall = (error: unknown, bytes: number, diskMib: number): PyroError | null => {
  const wantedMib = Math.ceil((bytes * DISK_FACTOR) / (DISK_STEP_MIB * MIB)) * DISK_STEP_MIB
  if (!isPyroError(error) || error.code !== 'disk.full' || diskMib >= wantedMib) return null
  return new PyroError(
    'disk.full',
    `a disk of ${diskMib} MiB is too small for its environment of ${Math.ceil(bytes / MIB)} MiB; no machine was made`,
    { hint: `--disk-mib ${wantedMib}, or more for what is to be done there` },
  )
}
