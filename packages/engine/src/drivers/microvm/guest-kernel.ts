import { createHash } from 'node:crypto'
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { isPyroError, PyroError, type Progress } from '@pyro/protocol'
import { z } from 'zod'
import type { KernelVersion, PrepareContext, PrunedThing } from '../../driver/driver.ts'
import { readJsonFile } from '../../lib/json-file.ts'
import { SharedWork } from '../../lib/shared-work.ts'
import { nowText } from '../../lib/wait.ts'
import { errnoOf } from '../../process/identity.ts'
import { runProgram } from '../../process/program.ts'
import { cpioArchive, type CpioFile } from './cpio.ts'
import { appear, halfMadeName, isThere, namesIn, removeFolders, removeHalfMade } from './whole-folder.ts'

const UNPACK_TIMEOUT_MS = 60_000
const ID_LENGTH = 16
const PACKAGE_PREFIX = 'package-'
const GIVEN_PREFIX = 'given-'

/** What every guest needs to find its devices, in an order in which each finds what it needs. */
const BUS_MODULES = ['drivers/virtio/virtio_ring', 'drivers/virtio/virtio', 'drivers/virtio/virtio_mmio']

/** What a guest needs that has a device of the type, which is counted as the kernel does (virtio specification, 5). */
const DEVICE_MODULES = {
  '0x0002': ['drivers/block/virtio_blk'],
  '0x0003': ['drivers/char/virtio_console'],
  '0x0013': [
    'net/vmw_vsock/vsock',
    'net/vmw_vsock/vmw_vsock_virtio_transport_common',
    'net/vmw_vsock/vmw_vsock_virtio_transport',
  ],
}

const MODULES = [...BUS_MODULES, ...Object.values(DEVICE_MODULES).flat()].map((module) => `kernel/${module}.ko`)

/** The agent loads the modules of these lines: of each its path, and what type of device it is for. Those that are not there are left out. */
const modulesOrder = (isPresent: (name: string) => boolean): string =>
  [['', BUS_MODULES] as const, ...Object.entries(DEVICE_MODULES)]
    .flatMap(([type, modules]) => modules.map((module) => ({ name: `${basename(module)}.ko`, type })))
    .filter(({ name }) => isPresent(name))
    .map(({ name, type }) => `/modules/${name} ${type}\n`)
    .join('')

/** Where the agent lies in the first root. */
export const AGENT_PATH = '/pyro-agent'

/**
 * Of the kernel's command line, on every VMM. The agent is the first program, and told how much memory user commands have. Whoever
 * waits until all processors have let go of something (RCU; a freeze of a disk does so several times) asks them instead of waiting
 * for their ticks: the pause of a snapshot is 22 instead of 59 ms when emulated.
 */
export const guestArguments = (commandsMib: number): string[] => [
  'rcupdate.rcu_expedited=1',
  `rdinit=${AGENT_PATH}`,
  '--',
  'machine',
  String(commandsMib),
]

/** A kernel without drivers for hardware, whose size and start suit a guest; of the package only what is used. */
const PACKAGE = {
  name: 'linux',
  description: 'the kernel of microVMs',
  suite: 'bookworm',
  packages: [`linux-image-cloud-${process.arch === 'x64' ? 'amd64' : process.arch}`],
  only: ['boot/vmlinuz-*', ...MODULES.map((module) => `*/modules/*/${module}`)],
} as const

/** Gets files out of Debian packages, as a tar whose path it gives. */
export type PackageFiles = (
  wanted: typeof PACKAGE,
  options: { readonly folder: string; readonly signal: AbortSignal; readonly onProgress: (progress: Progress) => void },
) => Promise<string>

/** Kernel and first root of a microVM. */
export interface GuestKernel {
  /** Of both together. */
  readonly id: string
  readonly image: string
  readonly initramfs: string
}

interface ObtainOptions {
  readonly signal: AbortSignal
  readonly onProgress: (progress: Progress) => void
}

/** As shared work knows those who wait for it. */
export const callerOf = ({ signal, onProgress }: PrepareContext): Parameters<SharedWork<unknown>['join']>[1] => ({
  signal,
  ...(onProgress === undefined ? {} : { onProgress }),
})

const manifestSchema = z.object({
  format: z.literal(1),
  /** For people: the kernel's release. */
  release: z.string(),
  kernelSha256: z.string(),
  agentSha256: z.string(),
  initramfsSha256: z.string(),
  createdAt: z.string(),
})

/** SHA-256 of each file of an unpacked package, by its path there. */
const sumsSchema = z.record(z.string(), z.string())
const SUMS = 'sums.json'
/** What a kernel has without modules, a path as theirs in each line. */
const BUILT_IN = 'modules.builtin'

export interface GuestKernelsOptions {
  /** Holds `kernels`. */
  readonly folder: string
  readonly agentPath: string
  readonly packageFiles: PackageFiles
  /** Path of a Debian package with another kernel. Null: the one of the catalog. */
  readonly givenPackage: string | null
}

/** Whose kernel it is. */
interface KernelSource {
  /** Of the folders of its unpacked packages. */
  readonly prefix: string
  /** Puts its `boot` and its modules into a folder. */
  unpackInto(folder: string, options: ObtainOptions): Promise<void>
}

/**
 * `kernels`: per kernel and choice of modules a folder `package-<sha256 16>` with `vmlinuz` and `modules/`, of a package that is given
 * `given-<sha256 16 of the package>-<sha256 16>`; per kernel and agent one `<id>` with `initramfs.img`. Folders appear whole, by
 * rename; what bears another name is half-made. Each engine checks that they hold what was put there, once and again after a machine
 * that did not boot, and makes anew what does not.
 */
export class GuestKernels {
  readonly #options: GuestKernelsOptions
  readonly #work = new SharedWork<GuestKernel>()
  #obtained: GuestKernel | null = null

  constructor(options: GuestKernelsOptions) {
    this.#options = options
  }

  /** Made when first asked for; one making at a time, which ends when nobody waits for it any more. */
  async obtain(cx: PrepareContext): Promise<GuestKernel> {
    const known = this.#obtained
    if (known !== null && (await isThere(known.initramfs))) return known
    return this.#work.join('kernel', callerOf(cx), async (signal, onProgress) => {
      this.#obtained = await this.#obtain({ signal, onProgress })
      return this.#obtained
    })
  }

  /** Told that a machine did not boot: the next who asks gets what was checked again. False: what there was is whole. */
  async doubt(): Promise<boolean> {
    const known = this.#obtained
    this.#obtained = null
    // Another machine failed with it, and nobody asked since.
    if (known === null) return true
    const kernel = dirname(known.image)
    const sums = await readJsonFile(join(kernel, SUMS), sumsSchema)
    return sums === null || !(await hold(kernel, sums)) || !(await isWhole(dirname(known.initramfs)))
  }

  /** Null when none was obtained before. Fetches nothing. */
  async present(): Promise<GuestKernel | null> {
    const folder = join(this.#options.folder, 'kernels')
    if (!(await isThere(folder)) || (await this.#unpacked(folder, await this.#source())) === null) return null
    return this.obtain({ signal: new AbortController().signal })
  }

  /** Of the kernel that is here; null: none was obtained before. */
  async version(): Promise<KernelVersion | null> {
    const folder = join(this.#options.folder, 'kernels')
    const kernel = (await isThere(folder)) ? await this.#unpacked(folder, await this.#source()) : null
    if (kernel === null) return null
    const [release, image] = await Promise.all([
      readFile(join(kernel, 'release'), 'utf8'),
      readFile(join(kernel, 'vmlinuz')),
    ])
    return { release, sha256: sha256(image) }
  }

  /** Removes kernels and first roots but for this one. */
  async prune(kernel: GuestKernel | null): Promise<readonly PrunedThing[]> {
    const folder = join(this.#options.folder, 'kernels')
    const used = kernel === null ? [] : [basename(dirname(kernel.image)), kernel.id]
    if (kernel === null) this.#obtained = null
    const names = await namesIn(folder)
    await removeHalfMade(folder)
    return removeFolders(
      folder,
      names.filter((name) => !name.startsWith('.') && !used.includes(name)),
    )
  }

  async #obtain(options: ObtainOptions): Promise<GuestKernel> {
    const folder = join(this.#options.folder, 'kernels')
    await mkdir(folder, { recursive: true, mode: 0o700 })
    const source = await this.#source()
    const kernel = (await this.#unpacked(folder, source)) ?? (await this.#unpack(folder, source, options))
    const image = join(kernel, 'vmlinuz')
    const [vmlinuz, agent] = await Promise.all([readFile(image), readFile(this.#options.agentPath)])
    const id = sha256(
      sha256(vmlinuz),
      sha256(agent),
      modulesOrder(() => true),
    ).slice(0, ID_LENGTH)
    const place = join(folder, id)
    const initramfs = join(place, 'initramfs.img')
    if (await isWhole(place)) return { id, image, initramfs }
    await rm(place, { recursive: true, force: true })
    await appear(place, async (staging) => {
      const archive = await this.#firstRoot(kernel, agent)
      await writeFile(join(staging, 'initramfs.img'), archive)
      const manifest: z.infer<typeof manifestSchema> = {
        format: 1,
        release: await readFile(join(kernel, 'release'), 'utf8'),
        kernelSha256: sha256(vmlinuz),
        agentSha256: sha256(agent),
        initramfsSha256: sha256(archive),
        createdAt: nowText(),
      }
      await writeFile(join(staging, 'manifest.json'), JSON.stringify(manifest))
    })
    return { id, image, initramfs }
  }

  /** Not compressed: a guest, above all one that is emulated, would take longer to unpack it than its VMM to read it. */
  async #firstRoot(kernel: string, agent: Uint8Array): Promise<Buffer> {
    const files: CpioFile[] = [
      { path: AGENT_PATH.slice(1), content: agent, executable: true },
      { path: 'modules', content: null },
    ]
    const present = await readdir(join(kernel, 'modules'))
    for (const name of MODULES.map((module) => basename(module)).filter((it) => present.includes(it)))
      files.push({ path: `modules/${name}`, content: await readFile(join(kernel, 'modules', name)) })
    const order = modulesOrder((name) => present.includes(name))
    return cpioArchive([...files, { path: 'modules/order', content: Buffer.from(order) }])
  }

  async #source(): Promise<KernelSource> {
    const { givenPackage, packageFiles } = this.#options
    if (givenPackage !== null) return givenSource(givenPackage)
    return {
      prefix: PACKAGE_PREFIX,
      async unpackInto(folder, options) {
        const archive = await packageFiles(PACKAGE, { folder, ...options })
        await unpackWith('tar', ['-xf', archive, '-C', folder, '--no-same-owner'])
      },
    }
  }

  async #unpacked(folder: string, { prefix }: KernelSource): Promise<string | null> {
    await removeHalfMade(folder)
    for (const name of (await readdir(folder)).filter((entry) => entry.startsWith(prefix)).sort()) {
      const place = join(folder, name)
      const sums = await readJsonFile(join(place, SUMS), sumsSchema)
      if (sums === null || !(await hold(place, sums))) {
        await rm(place, { recursive: true, force: true })
        continue
      }
      const builtIn = BUILT_IN in sums ? await readFile(join(place, BUILT_IN), 'utf8') : ''
      // One that was unpacked for fewer modules stays for whoever uses it.
      if (MODULES.every((module) => `modules/${basename(module)}` in sums || isListed(builtIn, module))) return place
    }
    return null
  }

  async #unpack(folder: string, source: KernelSource, options: ObtainOptions): Promise<string> {
    const staging = join(folder, halfMadeName('package'))
    await rm(staging, { recursive: true, force: true })
    await mkdir(staging, { mode: 0o700 })
    try {
      await source.unpackInto(staging, options)
      const image = (await namesIn(join(staging, 'boot'))).find((name) => name.startsWith('vmlinuz-'))
      if (image === undefined) throw noKernel('image')
      const release = image.slice('vmlinuz-'.length)
      const digest = sha256(sha256(await readFile(join(staging, 'boot', image))), ...MODULES).slice(0, ID_LENGTH)
      const place = join(folder, `${source.prefix}${digest}`)
      await appear(place, async (tree) => {
        await mkdir(join(tree, 'modules'))
        await rename(join(staging, 'boot', image), join(tree, 'vmlinuz'))
        // The root filesystem that it was unpacked into may have /lib as a link to /usr/lib.
        const trees = ['usr/lib', 'lib'].map((lib) => join(staging, lib, 'modules', release))
        const list = await firstThere(trees.map((from) => join(from, 'modules.builtin')))
        const builtIn = list === null ? '' : await readFile(list, 'utf8')
        const modules = MODULES.filter((module) => !isListed(builtIn, module))
        for (const module of modules) {
          const places = trees.map((from) => join(from, module))
          const compressed = await firstThere(places.map((place) => `${place}.xz`))
          if (compressed !== null) await unpackWith('xz', ['--decompress', compressed])
          const from = await firstThere(places)
          if (from === null) throw noKernel(module)
          await rename(from, join(tree, 'modules', basename(module)))
        }
        await writeFile(join(tree, 'release'), release)
        await writeFile(join(tree, BUILT_IN), builtIn)
        const files = ['vmlinuz', 'release', BUILT_IN, ...modules.map((module) => `modules/${basename(module)}`)]
        const sums = files.map(async (file) => [file, sha256(await readFile(join(tree, file)))] as const)
        await writeFile(join(tree, SUMS), JSON.stringify(Object.fromEntries(await Promise.all(sums))))
      })
      return place
    } finally {
      await rm(staging, { recursive: true, force: true })
    }
  }
}

const isWhole = async (place: string): Promise<boolean> => {
  const manifest = await readJsonFile(join(place, 'manifest.json'), manifestSchema)
  return manifest !== null && hold(place, { 'initramfs.img': manifest.initramfsSha256 })
}

/** Whether all files are there and hold what they did. */
const hold = async (place: string, sums: Readonly<Record<string, string>>): Promise<boolean> => {
  try {
    for (const [file, sum] of Object.entries(sums)) if (sha256(await readFile(join(place, file))) !== sum) return false
    return true
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false
    throw error
  }
}

/** Another package makes another source, also at the same path. */
const givenSource = async (path: string): Promise<KernelSource> => {
  let content: Buffer
  try {
    if (!(await stat(path)).isFile()) throw notUsable(`${path} is no file`)
    content = await readFile(path)
  } catch (error) {
    if (isPyroError(error)) throw error
    throw notUsable(`${path} cannot be read: ${errnoOf(error) ?? String(error)}`)
  }
  return {
    prefix: `${GIVEN_PREFIX}${sha256(content).slice(0, ID_LENGTH)}-`,
    unpackInto: (folder) => unpackWith('dpkg-deb', ['--extract', path, folder]),
  }
}

const unpackWith = async (program: string, args: readonly string[]): Promise<void> => {
  const { exitCode, stderr } = await runProgram(program, args, { timeoutMs: UNPACK_TIMEOUT_MS })
  if (exitCode !== 0) throw notUsable(`not unpacked: ${stderr.trim()}`)
}

const isListed = (list: string, module: string): boolean => list.split('\n').includes(module)

const noKernel = (what: string): PyroError => notUsable(`it holds no ${what}`)

const notUsable = (why: string): PyroError =>
  new PyroError('driver.unavailable', `the kernel package of microVMs is not usable: ${why}`, {
    hint: 'another one, as linux-image-cloud-amd64 of Debian is: PYRO_GUEST_KERNEL=/path/to/linux-image.deb pyro daemon restart',
  })

const firstThere = async (paths: readonly string[]): Promise<string | null> => {
  for (const path of paths) if (await isThere(path)) return path
  return null
}

const sha256 = (...parts: readonly (string | Uint8Array)[]): string => {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(part)
  return hash.digest('hex')
}
