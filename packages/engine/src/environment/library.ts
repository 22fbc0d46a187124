import { mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { PyroError } from '@pyro/protocol'
import { z } from 'zod'
import { errnoOf } from '../process/identity.ts'

/** Raised when older engines could not read what this one writes. */
const FORMAT = 1

/** What is known of one installed archive, whatever names it has. */
const manifestSchema = z.object({
  format: z.literal(FORMAT),
  /** `sha256:<hex>`. */
  digest: z.string().regex(/^sha256:[0-9a-f]{64}$/),
  kind: z.enum(['rootfs', 'oci']),
  platform: z.string(),
  /** Content of the tree. */
  files: z.int(),
  bytes: z.int(),
  /** Device nodes of the archive, which no sandbox may have: left out. */
  skippedDevices: z.int().default(0),
  /** The archive, plain and as it is kept. */
  archiveBytes: z.int(),
  compressedBytes: z.int(),
  /** Which image of a layout that holds several. */
  image: z.string().nullable(),
  env: z.record(z.string(), z.string()),
  user: z.string(),
  workingDir: z.string(),
  packages: z.array(z.object({ name: z.string(), version: z.string() })),
  /** SHA-256 of the plain archive; the digest, unless an image was chosen. */
  archiveDigestHex: z.string(),
  createdAt: z.string(),
})
export type Manifest = z.infer<typeof manifestSchema>

const namedSchema = z.object({
  digest: z.string(),
  /** What it was built or imported from, for display. */
  source: z.string(),
  /** Which recipe built it; null for imports. */
  recipe: z.string().nullable(),
  createdAt: z.string(),
})
export type Named = z.infer<typeof namedSchema>

const indexSchema = z.object({ format: z.literal(FORMAT), names: z.record(z.string(), namedSchema) })

export const digestHex = (digest: string): string => digest.slice('sha256:'.length)
/** Folder and volume of an archive: enough of the digest to be its own. */
export const shortDigest = (digest: string): string => digestHex(digest).slice(0, 16)

/**
 * `<home>/environments`: `names.json`, and per archive a folder `<digest 16>` with `manifest.json` and `rootfs.tar.zst`. A folder
 * appears whole, by rename; what bears another name is half-made.
 */
export class Library {
  readonly folder: string
  readonly #names: Map<string, Named>
  readonly #manifests: Map<string, Manifest>
  #writing: Promise<void> = Promise.resolve()

  private constructor(folder: string, names: Map<string, Named>, manifests: Map<string, Manifest>) {
    this.folder = folder
    this.#names = names
    this.#manifests = manifests
  }

  static async open(folder: string): Promise<Library> {
    await mkdir(folder, { recursive: true, mode: 0o700 })
    const names = await readNames(join(folder, 'names.json'))
    const manifests = new Map<string, Manifest>()
    for (const entry of await readdir(folder)) {
      const path = join(folder, entry)
      if (/^[0-9a-f]{16}$/.test(entry)) {
        const manifest = await readManifest(join(path, 'manifest.json'))
        manifests.set(manifest.digest, manifest)
      } else if (entry !== 'names.json') await rm(path, { recursive: true, force: true })
    }
    // A name whose archive is gone would promise what is not there.
    for (const [name, { digest }] of names) if (!manifests.has(digest)) names.delete(name)
    return new Library(folder, names, manifests)
  }

  names(): ReadonlyMap<string, Named> {
    return this.#names
  }

  manifests(): ReadonlyMap<string, Manifest> {
    return this.#manifests
  }

  archivePath(digest: string): string {
    return join(this.folder, shortDigest(digest), 'rootfs.tar.zst')
  }

  /** A folder that `add` can take over, on the same filesystem. */
  async stagingFolder(digest: string): Promise<string> {
    const path = join(this.folder, `.new-${shortDigest(digest)}`)
    await rm(path, { recursive: true, force: true })
    await mkdir(path, { mode: 0o700 })
    return path
  }

  /** Takes over a folder that holds `rootfs.tar.zst`. */
  async add(manifest: Manifest, staged: string): Promise<void> {
    await writeDurably(join(staged, 'manifest.json'), manifest)
    await rename(staged, join(this.folder, shortDigest(manifest.digest)))
    this.#manifests.set(manifest.digest, manifest)
  }

  /** On failure the name is what it was. */
  async setName(name: string, named: Named): Promise<void> {
    const before = this.#names.get(name)
    this.#names.set(name, named)
    try {
      await this.#writeNames()
    } catch (error) {
      if (before === undefined) this.#names.delete(name)
      else this.#names.set(name, before)
      throw error
    }
  }

  async removeName(name: string): Promise<void> {
    this.#names.delete(name)
    await this.#writeNames()
  }

  /** Bytes of the archive that went. */
  async removeArchive(digest: string): Promise<number> {
    const manifest = this.#manifests.get(digest)
    this.#manifests.delete(digest)
    const gone = join(this.folder, `.gone-${shortDigest(digest)}`)
    await rename(join(this.folder, shortDigest(digest)), gone)
    await rm(gone, { recursive: true, force: true })
    return manifest?.compressedBytes ?? 0
  }

  /** One writer at a time, each with what is known when its turn comes. */
  #writeNames(): Promise<void> {
    const write = () =>
      writeDurably(join(this.folder, 'names.json'), { format: FORMAT, names: Object.fromEntries(this.#names) })
    const next = this.#writing.then(write, write)
    // The caller has the error; the next write does not care.
    this.#writing = next.catch((_error: unknown) => undefined)
    return next
  }
}

const readNames = async (path: string): Promise<Map<string, Named>> => {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return new Map()
    throw error
  }
  return new Map(Object.entries(parse(indexSchema, text, path).names))
}

const readManifest = async (path: string): Promise<Manifest> =>
  parse(manifestSchema, await readFile(path, 'utf8'), path)

const parse = <Schema extends z.ZodType>(schema: Schema, text: string, path: string): z.infer<Schema> => {
  const value: unknown = JSON.parse(text)
  const format = z.object({ format: z.number() }).safeParse(value).data?.format ?? FORMAT
  if (format > FORMAT)
    throw new PyroError('state.too-new', `${path} was written by a newer version; nothing was changed`)
  return schema.parse(value)
}

const writeDurably = async (path: string, value: unknown): Promise<void> => {
  const file = await open(`${path}.new`, 'w', 0o600)
  try {
    await file.writeFile(JSON.stringify(value))
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(`${path}.new`, path)
}
