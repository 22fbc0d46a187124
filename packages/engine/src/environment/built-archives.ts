import { constants } from 'node:fs'
import { copyFile, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isPyroError, type Progress } from '@pyro/protocol'
import { z } from 'zod'
import { nowText } from '../lib/wait.ts'
import { errnoOf } from '../process/identity.ts'
import { compressArchive, expandArchive, type PlainArchive } from './archive.ts'
import { debianArchitecture, recipeKey, type Recipe } from './catalog.ts'
import { buildDebian } from './debian-build.ts'

const cached = z.object({ digest: z.string().startsWith('sha256:'), bytes: z.int(), compressedBytes: z.int() })

/** A shared folder that is full, or that others own: a convenience that is missing. */
const CANNOT_SHARE: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT', 'EROFS', 'EACCES', 'EPERM'])

export interface BuiltArchivesOptions {
  readonly packageFolder: string
  /** Built archives by recipe, shared between homes; null: none. */
  readonly sharedFolder: string | null
  readonly mirrorOverride: string | null
  readonly programPath: string
}

export interface ObtainOptions {
  /** Of the caller, removed by it. */
  readonly folder: string
  readonly signal: AbortSignal
  readonly onProgress: (progress: Progress) => void
}

export interface BuiltArchive {
  /** The plain tar. */
  readonly path: string
  readonly archive: PlainArchive
  readonly compressedPath: string
}

/** Archives of catalog recipes: from the shared folder when another home built the same recipe, else built now. */
export class BuiltArchives {
  readonly #options: BuiltArchivesOptions

  constructor(options: BuiltArchivesOptions) {
    this.#options = options
  }

  keyOf(recipe: Recipe): string {
    return recipeKey(recipe, debianArchitecture())
  }

  async obtain(recipe: Recipe, options: ObtainOptions): Promise<BuiltArchive> {
    return (await this.#fromShared(recipe, options)) ?? this.#build(recipe, options)
  }

  async #build(recipe: Recipe, { folder, signal, onProgress }: ObtainOptions): Promise<BuiltArchive> {
    const path = join(folder, 'rootfs.tar')
    const compressedPath = `${path}.zst`
    await buildDebian({
      recipe,
      cacheFolder: this.#options.packageFolder,
      temporaryFolder: folder,
      mirrorOverride: this.#options.mirrorOverride,
      programPath: this.#options.programPath,
      output: path,
      signal,
      onProgress,
    })
    onProgress({ step: `compressing ${recipe.name}`, done: null, total: null, unit: null, detail: null })
    const { digestHex, bytes, compressedBytes } = await compressArchive(path, compressedPath, signal)
    try {
      await this.#share(recipe, compressedPath, { digest: `sha256:${digestHex}`, bytes, compressedBytes })
    } catch (error) {
      // The next home then builds for itself.
      if (!CANNOT_SHARE.has(errnoOf(error) ?? '')) throw error
    }
    return { path, archive: { digestHex, bytes }, compressedPath }
  }

  /** Null when there is none, or a damaged one. */
  async #fromShared(recipe: Recipe, { folder, signal, onProgress }: ObtainOptions): Promise<BuiltArchive | null> {
    const { sharedFolder } = this.#options
    if (sharedFolder === null) return null
    const key = this.keyOf(recipe)
    const compressedPath = join(folder, 'shared.tar.zst')
    const path = join(folder, 'shared.tar')
    try {
      const { digest } = cached.parse(JSON.parse(await readFile(join(sharedFolder, `${key}.json`), 'utf8')))
      onProgress({ step: `copying ${recipe.name}`, done: null, total: null, unit: null, detail: null })
      await copyFile(join(sharedFolder, `${key}.tar.zst`), compressedPath, constants.COPYFILE_FICLONE)
      const archive = await expandArchive(compressedPath, path, digest.slice('sha256:'.length), signal)
      return { path, archive, compressedPath }
    } catch (error) {
      signal.throwIfAborted()
      if (!isUnusable(error)) throw error
      await Promise.all([compressedPath, path].map((file) => rm(file, { force: true })))
      return null
    }
  }

  /** The description comes last, by rename: what has one is whole. */
  async #share(recipe: Recipe, compressedPath: string, description: z.infer<typeof cached>): Promise<void> {
    const { sharedFolder } = this.#options
    if (sharedFolder === null) return
    await mkdir(sharedFolder, { recursive: true, mode: 0o700 })
    const base = join(sharedFolder, this.keyOf(recipe))
    const archive = `${base}.tar.zst`
    const own = [`${archive}.${process.pid}`, `${base}.json.${process.pid}`] as const
    try {
      await copyFile(compressedPath, own[0], constants.COPYFILE_FICLONE)
      await rename(own[0], archive)
      await writeFile(own[1], JSON.stringify({ ...description, builtAt: nowText() }), { mode: 0o600 })
      await rename(own[1], `${base}.json`)
    } finally {
      await Promise.all(own.map((file) => rm(file, { force: true })))
    }
  }
}

/** Missing, cut off, of another form, or not what its digest says: the recipe is built instead. */
const isUnusable = (error: unknown): boolean =>
  errnoOf(error) === 'ENOENT' ||
  errnoOf(error)?.startsWith('ZSTD_') === true ||
  errnoOf(error)?.startsWith('Z_') === true ||
  error instanceof SyntaxError ||
  error instanceof z.ZodError ||
  (isPyroError(error) && error.code === 'environment.invalid')
