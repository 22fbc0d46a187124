import { join } from 'node:path'
import type { Readable } from 'node:stream'
import {
  PyroError,
  type EnvironmentRecord,
  type environmentSummary,
  type Limits,
  type Progress,
  type pruneResult,
} from '@pyro/protocol'
import type { z } from 'zod'
import { environmentVolume, groupOf, type DiskStore, type VolumeId } from '../disk/disk-store.ts'
import { nearest } from '../lib/nearest.ts'
import { SharedWork } from '../lib/shared-work.ts'
import { nowText } from '../lib/wait.ts'
import type { RoleHost } from '../offline/roles.ts'
import { STANDARD_PATH } from '../process/find-program.ts'
import { spoolArchive } from './archive.ts'
import { BuiltArchives } from './built-archives.ts'
import { CATALOG, ociPlatform, recipeOf } from './catalog.ts'
import { digestOf, Installer } from './installer.ts'
import { digestHex, Library, type Manifest } from './library.ts'
import { clearPackageCache } from './package-cache.ts'

/** How long `remove` and `prune` wait for the space of a volume to come back before they report. */
const RECLAIM_TIMEOUT_MS = 45_000

export interface EnvironmentCallOptions {
  readonly signal?: AbortSignal
  readonly onProgress?: (progress: Progress) => void
}

/** What workspaces are cloned from: the tree itself, or a disk of that size that holds it. */
export type VolumeForm = 'tree' | { readonly diskMib: number }

export interface ImportRequest {
  readonly environment: string
  /** For display; never opened. */
  readonly source: string
  /** Which image of a layout that holds several. */
  readonly image: string | null
  /** Supersede an environment of this name. */
  readonly replace: boolean
}

/** An installed environment that cannot be removed while this is held. */
export interface EnvironmentLease extends Disposable {
  readonly name: string
  /** `sha256:<64 hex>`. */
  readonly digest: string
  /** Immutable volume to clone. */
  readonly volume: VolumeId
  readonly env: Readonly<Record<string, string>>
  readonly user: string
  readonly workingDir: string
  /** False when it was installed already. */
  readonly pulled: boolean
}

export interface OpenEnvironmentsOptions {
  readonly home: string
  readonly limits: Limits
  readonly debianMirror: string | null
  /** Folder shared between homes that keeps built archives; null: none. */
  readonly environmentCache: string | null
  readonly disks: DiskStore
  /** Where archives are unpacked. */
  readonly host: RoleHost
  /** Where the programs that build environments are looked for; default: the standard folders. */
  readonly programPath?: string
  /** Names of the workspaces that stand on an environment, by digest. */
  readonly usedBy: (digest: string) => readonly string[]
}

type Summary = z.infer<typeof environmentSummary>
type PruneResult = z.infer<typeof pruneResult>

/** What this host can start workspaces from: the catalog, and what was pulled or imported. */
export class Environments {
  readonly #options: OpenEnvironmentsOptions
  readonly #library: Library
  readonly #installer: Installer
  readonly #archives: BuiltArchives
  readonly #pulls = new SharedWork<Manifest>()
  /** By digest: how many creates under way stand on it. */
  readonly #leases = new Map<string, number>()
  /** By digest: how many pulls and imports are about to name it. */
  readonly #arriving = new Map<string, number>()

  private constructor(options: OpenEnvironmentsOptions, library: Library, installer: Installer) {
    this.#options = options
    this.#library = library
    this.#installer = installer
    this.#archives = new BuiltArchives({
      packageFolder: join(options.home, 'cache', 'packages'),
      sharedFolder: options.environmentCache,
      mirrorOverride: options.debianMirror,
      programPath: options.programPath ?? STANDARD_PATH,
    })
  }

  /** Puts right what a crash left: half-made archives, and volumes of environments that are not installed. */
  static async open(options: OpenEnvironmentsOptions): Promise<Environments> {
    const { home, disks, host, limits } = options
    const library = await Library.open(join(home, 'environments'))
    const installer = await Installer.open({
      library,
      disks,
      host,
      limits: { entries: limits.archiveEntries, bytes: limits.archiveBytes, pathBytes: limits.archivePathBytes },
      temporaryFolder: join(home, 'tmp', 'environments'),
    })
    const environments = new Environments(options, library, installer)
    const installed = new Set<string>(await environments.volumes())
    for (const volume of await disks.list()) {
      const isOurs = volume.id.startsWith('env-')
      if (isOurs && (volume.writable || !installed.has(groupOf(volume.id)))) await disks.remove(volume.id)
    }
    return environments
  }

  async list(): Promise<Summary[]> {
    const catalog = CATALOG.map(({ name }) => name)
    const imported = [...this.#library.names().keys()].filter((name) => recipeOf(name) === null).sort()
    return [...catalog, ...imported].map((name) => this.#summary(name))
  }

  /** Fails with `environment.not-found`, suggesting the nearest name. */
  async inspect(name: string): Promise<EnvironmentRecord> {
    return this.#record(name)
  }

  /** Concurrent pulls of one environment share one build; it is aborted when all its callers have gone. */
  async pull(
    name: string,
    options: EnvironmentCallOptions = {},
  ): Promise<EnvironmentRecord & { readonly pulled: boolean }> {
    const pulled = await this.#ensure(name, options)
    return { ...this.#record(name), pulled }
  }

  async import(
    request: ImportRequest,
    archive: Readable,
    options: EnvironmentCallOptions = {},
  ): Promise<EnvironmentRecord & { readonly skippedDevices: number }> {
    const { environment, source, image, replace } = request
    this.#checkImportName(environment, replace)
    using arriving = new DisposableStack()
    const manifest = await this.#installer.withTemporaryFolder(async (folder) => {
      const path = join(folder, 'rootfs.tar')
      const step = `receiving ${environment}`
      const plain = await spoolArchive(archive, path, {
        limits: { entries: this.#options.limits.archiveEntries, bytes: this.#options.limits.archiveBytes },
        ...(options.signal === undefined ? {} : { signal: options.signal }),
        onProgress: (bytes) => options.onProgress?.({ step, done: bytes, total: null, unit: 'bytes', detail: null }),
      })
      const install = { path, archive: plain, image, compressedPath: null, name: environment }
      arriving.use(this.#arrive(digestOf(install)))
      return this.#installer.install(install, options)
    })
    const { digest, skippedDevices } = manifest
    try {
      // Another import may have taken the name meanwhile: the first one has it.
      this.#checkImportName(environment, replace)
      await this.#library.setName(environment, { digest, source, recipe: null, createdAt: nowText() })
    } catch (error) {
      arriving.dispose()
      await this.#removeUnused(digest)
      throw error
    }
    return { ...this.#record(environment), skippedDevices }
  }

  async remove(name: string): Promise<{ removed: string; digest: string; freedBytes: number | null }> {
    const named = this.#library.names().get(name)
    if (named === undefined) throw this.#notFound(name, 'is not installed')
    this.#checkUnused(name, named.digest)
    await this.#library.removeName(name)
    return { removed: name, digest: named.digest, freedBytes: (await this.#removeUnused(named.digest)) ?? 0 }
  }

  async prune({ all }: { readonly all: boolean }): Promise<PruneResult> {
    const removed: PruneResult['removed'] = []
    if (all) {
      for (const [name, { digest }] of this.#library.names()) {
        if (this.#isInUse(digest)) continue
        const { freedBytes } = await this.remove(name)
        removed.push({ kind: 'environment', name, bytes: freedBytes ?? 0 })
      }
    }
    for (const { digest } of Array.from(this.#library.manifests().values())) {
      const bytes = await this.#removeUnused(digest)
      if (bytes !== null) removed.push({ kind: 'superseded', name: digest, bytes })
    }
    if (this.#pulls.isIdle) {
      const bytes = await clearPackageCache(join(this.#options.home, 'cache', 'packages'))
      if (bytes > 0) removed.push({ kind: 'cache', name: 'packages', bytes })
    }
    return { removed, freedBytes: removed.reduce((sum, { bytes }) => sum + bytes, 0) }
  }

  /** For a create: the environment, pulled when missing and `pull` says so. Dispose the lease when the workspace is recorded. */
  async acquire(
    name: string,
    options: EnvironmentCallOptions & { readonly pull: boolean; readonly form: VolumeForm },
  ): Promise<EnvironmentLease> {
    if (!options.pull && recipeOf(name) !== null && !this.#library.names().has(name))
      throw new PyroError('environment.not-found', `environment ${name} is not installed; nothing was changed`, {
        hint: `pull it first with pyro env pull ${name}, or leave --no-pull out`,
      })
    const pulled = await this.#ensure(name, options)
    const named = this.#library.names().get(name)
    const manifest = named === undefined ? undefined : this.#library.manifests().get(named.digest)
    if (manifest === undefined) throw this.#notFound(name, 'was removed meanwhile')
    const { digest } = manifest
    this.#leases.set(digest, (this.#leases.get(digest) ?? 0) + 1)
    let isHeld = true
    const release = (): void => {
      if (isHeld) this.#leases.set(digest, (this.#leases.get(digest) ?? 1) - 1)
      isHeld = false
    }
    try {
      const tree = await this.#installer.ensureVolume(manifest, options)
      const { form } = options
      const volume = form === 'tree' ? tree : await this.#installer.ensureImage(manifest, form.diskMib, options)
      const { env, user, workingDir } = manifest
      return { name, digest, volume, env, user, workingDir, pulled, [Symbol.dispose]: release }
    } catch (error) {
      release()
      throw error
    }
  }

  /** Volumes that belong to installed environments or to a pull or import under way, for the leak audit. */
  async volumes(): Promise<readonly VolumeId[]> {
    const installed = [...this.#library.manifests().keys()].map((digest) => environmentVolume(digestHex(digest)))
    const trees = new Set([...installed, ...this.#installer.volumes()])
    return [...trees, ...(await this.#images(trees))]
  }

  /** Disk images of these trees. */
  async #images(trees: ReadonlySet<VolumeId>): Promise<VolumeId[]> {
    const all = (await this.#options.disks.list()).map(({ id }) => id)
    return all.filter((id) => !trees.has(id) && trees.has(groupOf(id) as VolumeId))
  }

  /** Temporary folders of pulls and imports under way, for the leak audit. */
  folders(): readonly string[] {
    return this.#installer.folders()
  }

  /** True when it had to be pulled. */
  async #ensure(name: string, options: EnvironmentCallOptions): Promise<boolean> {
    const named = this.#library.names().get(name)
    const recipe = recipeOf(name)
    if (recipe === null && named === undefined) throw this.#notFound(name, 'is neither in the catalog nor installed')
    if (recipe === null || named?.recipe === this.#archives.keyOf(recipe)) return false
    await this.#pulls.join(name, options, async (signal, onProgress) => {
      using arriving = new DisposableStack()
      const manifest = await this.#installer.withTemporaryFolder(async (folder) => {
        const built = { ...(await this.#archives.obtain(recipe, { folder, signal, onProgress })), image: null, name }
        arriving.use(this.#arrive(digestOf(built)))
        return this.#installer.install(built, { signal, onProgress })
      })
      await this.#library.setName(name, {
        digest: manifest.digest,
        source: 'catalog',
        recipe: this.#archives.keyOf(recipe),
        createdAt: nowText(),
      })
      return manifest
    })
    return true
  }

  /** What is being installed has no name yet, and is wanted all the same. */
  #arrive(digest: string): Disposable {
    this.#arriving.set(digest, (this.#arriving.get(digest) ?? 0) + 1)
    return { [Symbol.dispose]: () => void this.#arriving.set(digest, (this.#arriving.get(digest) ?? 1) - 1) }
  }

  /** Bytes that came back; null: something has a use for it. */
  #removeUnused(digest: string): Promise<number | null> {
    return this.#installer.alone(digest, async () => {
      const isNamed = [...this.#library.names().values()].some((named) => named.digest === digest)
      const isArriving = (this.#arriving.get(digest) ?? 0) > 0
      if (isNamed || isArriving || this.#isInUse(digest) || !this.#library.manifests().has(digest)) return null
      return this.#removeArchive(digest)
    })
  }

  async #removeArchive(digest: string): Promise<number> {
    const { disks } = this.#options
    const before = (await disks.space()).freeBytes
    const tree = environmentVolume(digestHex(digest))
    for (const id of [...(await this.#images(new Set([tree]))), tree]) await disks.remove(id)
    await disks.reclaimSpace({ timeoutMs: RECLAIM_TIMEOUT_MS })
    const inStore = Math.max(0, (await disks.space()).freeBytes - before)
    return inStore + (await this.#library.removeArchive(digest))
  }

  #checkImportName(name: string, replace: boolean): void {
    if (recipeOf(name) !== null)
      throw new PyroError('path.exists', `${name} is a name of the catalog; nothing was changed`, {
        hint: 'import it under another name',
      })
    const named = this.#library.names().get(name)
    if (named !== undefined && !replace)
      throw new PyroError('path.exists', `an environment ${name} exists already; nothing was changed`, {
        hint: 'choose another name, or supersede it with --replace',
      })
  }

  #checkUnused(name: string, digest: string): void {
    if (!this.#isInUse(digest)) return
    const workspaces = this.#options.usedBy(digest)
    throw new PyroError(
      'environment.in-use',
      `${name} is used by ${workspaces.length === 0 ? 'a workspace being created' : workspaces.join(', ')}; nothing was changed`,
      {
        hint: 'delete these workspaces first',
        data: { workspaces: [...workspaces] },
      },
    )
  }

  #isInUse(digest: string): boolean {
    return (this.#leases.get(digest) ?? 0) > 0 || this.#options.usedBy(digest).length > 0
  }

  #summary(name: string): Summary {
    const named = this.#library.names().get(name)
    const manifest = named === undefined ? undefined : this.#library.manifests().get(named.digest)
    const recipe = recipeOf(name)
    return {
      name,
      description: recipe?.description ?? `imported from ${named?.source ?? 'elsewhere'}`,
      catalog: recipe !== null,
      installed: manifest !== undefined,
      digest: manifest?.digest ?? null,
      sizeBytes: manifest?.bytes ?? null,
    }
  }

  #record(name: string): EnvironmentRecord {
    const named = this.#library.names().get(name)
    if (named === undefined && recipeOf(name) === null)
      throw this.#notFound(name, 'is neither in the catalog nor installed')
    const manifest = named === undefined ? undefined : this.#library.manifests().get(named.digest)
    return {
      ...this.#summary(name),
      createdAt: named?.createdAt ?? null,
      source: named?.source ?? null,
      platform: manifest?.platform ?? ociPlatform(),
      packages: manifest?.packages ?? [],
      env: manifest?.env ?? {},
      user: manifest?.user ?? 'root',
      workingDir: manifest?.workingDir ?? '',
      usedBy: manifest === undefined ? [] : [...this.#options.usedBy(manifest.digest)],
    }
  }

  #notFound(name: string, what: string): PyroError {
    const known = [...new Set([...CATALOG.map((recipe) => recipe.name), ...this.#library.names().keys()])]
    const suggestion = nearest(name, known)
    return new PyroError('environment.not-found', `environment ${name} ${what}; nothing was changed`, {
      hint:
        suggestion === null
          ? 'pyro env list shows what there is'
          : `did you mean ${suggestion}? pyro env list shows what there is`,
      data: { nearest: suggestion },
    })
  }
}
