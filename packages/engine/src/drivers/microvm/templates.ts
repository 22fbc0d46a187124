import { createHash } from 'node:crypto'
import { chmod, chown, mkdir, open, readFile, rename, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { Progress } from '@pyro/protocol'
import { CONFIG_DISK_BYTES, type VmmSpec } from '@pyro/protocol/guest'
import type { PrepareContext, PrunedThing } from '../../driver/driver.ts'
import { z } from 'zod'
import { readJsonFile } from '../../lib/json-file.ts'
import { errorFields, type Log } from '../../lib/log.ts'
import { SharedWork } from '../../lib/shared-work.ts'
import { errnoOf } from '../../process/identity.ts'
import { callerOf, type GuestKernel } from './guest-kernel.ts'
import { PassingFailures } from './passing-failures.ts'
import { appear, halfMadeName, namesIn, removeFolders, removeHalfMade } from './whole-folder.ts'

const KEY_LENGTH = 16
const TEMPLATE_FILES = ['memory', 'state'] as const
const MANIFEST = 'manifest.json'
const manifestSchema = z.strictObject({ memoryMtimeNs: z.string(), stateSha256: z.string() })

/** A machine that booted and touched no disk yet. */
export interface Template {
  /** Guest memory: mapped privately, never written to. */
  readonly memory: string
  /** State of processor and devices. */
  readonly state: string
}

export interface TemplateRequest<M> {
  readonly kernel: GuestKernel
  readonly machine: M
  /** User of the host that the VMM runs as. */
  readonly owner: number
}

/** How one VMM makes templates of machines that it describes as `M`. */
export interface TemplateMaker<M> {
  /** All that a template depends on, beside the kernel. */
  depends(machine: M): Promise<readonly unknown[]>
  /** Bytes of a machine's memory. */
  memoryBytes(machine: M): number
  /** Bytes of each disk of a machine. */
  diskBytes(machine: M): readonly number[]
  /** Boots the machine in a folder with empty disks, and leaves `memory` and `state` there. */
  make(folder: TemplateFolder, cx: TemplateRequest<M> & { readonly signal: AbortSignal }): Promise<void>
}

/** Paths of what a template is made of. */
export interface TemplateFolder {
  readonly folder: string
  /** The machine's disks and the one for its config: zeros. */
  readonly disks: readonly string[]
  readonly config: string
  readonly memory: string
  readonly state: string
}

/**
 * `templates`: per machine a folder `<kernel>-<key>` with `memory` and `state`. A folder appears whole, by rename; what bears another
 * name is half-made.
 */
export class Templates<M> {
  /** Holds `templates`. */
  readonly #place: string
  readonly #maker: TemplateMaker<M>
  readonly #work = new SharedWork<void>()
  /** By folder, what the files of a template looked like when they were found whole. */
  readonly #whole = new Map<string, string>()
  readonly #log: Pick<Log, 'warn'>
  readonly #failures: PassingFailures<true>

  constructor(place: string, maker: TemplateMaker<M>, log: Pick<Log, 'warn'>, nowMs?: () => number) {
    this.#place = place
    this.#maker = maker
    this.#log = log
    this.#failures = new PassingFailures(nowMs)
  }

  /**
   * Made when first asked for; one making of each at a time, which ends when nobody waits for it any more.
   */
  async obtain(request: TemplateRequest<M>, cx: PrepareContext): Promise<Template> {
    const folder = join(this.#place, 'templates')
    const place = await this.#placeOf(request)
    const template = { memory: join(place, 'memory'), state: join(place, 'state') }
    if (await this.#isWhole(place, template, this.#maker.memoryBytes(request.machine))) return template
    await this.#work.join(basename(place), callerOf(cx), async (signal, onProgress) => {
      onProgress({ step: 'booting a machine to start others from', done: null, total: null, unit: null, detail: null })
      await mkdir(folder, { recursive: true, mode: 0o700 })
      await removeHalfMade(folder)
      // One that is not whole, whatever became of it.
      await rm(place, { recursive: true, force: true })
      await appear(place, (staging) => this.#make(staging, { ...request, signal }))
    })
    return template
  }

  /** Null when it cannot be made or used, now or lately: for a VMM whose machines can boot instead. */
  async obtainIfPossible(request: TemplateRequest<M>, cx: PrepareContext): Promise<Template | null> {
    const key = JSON.stringify([request.kernel.id, request.machine])
    if (this.#failures.of(key) !== null) return null
    try {
      if (this.#failures.of(await this.#placeOf(request)) !== null) return null
      return await this.obtain(request, cx)
    } catch (error) {
      cx.signal.throwIfAborted()
      this.#failures.note(key, true)
      this.#log.warn(errorFields(error), 'a template of machines was not made: they boot')
      cx.onProgress?.(withoutTemplate(error))
      return null
    }
  }

  /**
   * Throws away the template that a machine began with which did not start; whether it is to blame is not known. False: there was none.
   * Machines that run with it keep it.
   */
  async discardOf(vmm: Pick<VmmSpec, 'mounts'>): Promise<boolean> {
    const folder = join(this.#place, 'templates')
    const place = vmm.mounts.map(({ source }) => dirname(source)).find((candidate) => dirname(candidate) === folder)
    if (place === undefined) return false
    this.#log.warn({ template: basename(place) }, 'a start failed: its template is thrown away')
    this.#failures.note(place, true)
    this.#whole.delete(place)
    const gone = join(folder, halfMadeName(basename(place)))
    try {
      await rename(place, gone)
    } catch (error) {
      // Another start was first.
      if (errnoOf(error) === 'ENOENT') return true
      throw error
    }
    await rm(gone, { recursive: true, force: true })
    return true
  }

  /** Makes one and throws it away: rejects when such a machine does not boot here. */
  async tryOut(cx: TemplateRequest<M> & { readonly signal: AbortSignal }): Promise<void> {
    const folder = join(this.#place, 'templates')
    await mkdir(folder, { recursive: true, mode: 0o700 })
    await removeHalfMade(folder)
    const staging = join(folder, halfMadeName('try'))
    await mkdir(staging, { mode: 0o700 })
    try {
      await this.#make(staging, cx)
    } finally {
      await rm(staging, { recursive: true, force: true })
    }
  }

  /** Removes templates that are not of this kernel, null: all; and what is half-made. */
  async prune(kernel: GuestKernel | null): Promise<readonly PrunedThing[]> {
    const folder = join(this.#place, 'templates')
    const halfMade = await removeHalfMade(folder)
    const unused = (await namesIn(folder)).filter(
      (name) => !name.startsWith('.') && (kernel === null || !name.startsWith(`${kernel.id}-`)),
    )
    return [...halfMade, ...(await removeFolders(folder, unused))]
  }

  async #placeOf({ kernel, machine }: TemplateRequest<M>): Promise<string> {
    const content = JSON.stringify([kernel.id, ...(await this.#maker.depends(machine))])
    return join(this.#place, 'templates', `${kernel.id}-${sha256(content).slice(0, KEY_LENGTH)}`)
  }

  async #make(folder: string, cx: TemplateRequest<M> & { readonly signal: AbortSignal }): Promise<void> {
    const file = (name: string): string => join(folder, name)
    const disks = this.#maker.diskBytes(cx.machine).map((bytes, at) => ({ path: file(`disk${at}`), bytes }))
    for (const { path, bytes } of [...disks, { path: file('config'), bytes: CONFIG_DISK_BYTES }]) {
      await writeFile(path, '', { mode: 0o600 })
      await truncate(path, bytes)
    }
    for (const name of TEMPLATE_FILES) {
      await writeFile(file(name), '', { mode: 0o600 })
      await chown(file(name), cx.owner, cx.owner)
    }
    await this.#maker.make(
      {
        folder,
        disks: disks.map(({ path }) => path),
        config: file('config'),
        memory: file('memory'),
        state: file('state'),
      },
      cx,
    )
    for (const name of TEMPLATE_FILES) {
      await chown(file(name), 0, 0)
      await chmod(file(name), 0o444)
    }
    for (const { path } of disks) await rm(path)
    await rm(file('config'))
    const { mtimeNs } = await stat(file('memory'), { bigint: true })
    const manifest = { memoryMtimeNs: String(mtimeNs), stateSha256: sha256(await readFile(file('state'))) }
    await writeFile(file(MANIFEST), JSON.stringify(manifest), { mode: 0o600 })
    await syncFiles([...TEMPLATE_FILES, MANIFEST].map(file))
  }

  /**
   * Folders appear whole; a disk that was full or lost its power may have cut a file short, and anybody's hand may have changed one.
   * Memory is too large to be read at each start: that it has its size and was not written to since must do. A template
   * whose start fails is thrown away (`discardOf`).
   */
  async #isWhole(place: string, template: Template, memoryBytes: number): Promise<boolean> {
    const seen = await printOf([template.memory, template.state])
    if (seen === null) return false
    if (this.#whole.get(place) === seen) return true
    const manifest = await readJsonFile(join(place, MANIFEST), manifestSchema)
    const { size, mtimeNs } = await stat(template.memory, { bigint: true })
    const whole =
      manifest?.memoryMtimeNs === String(mtimeNs) &&
      size === BigInt(memoryBytes) &&
      manifest.stateSha256 === sha256(await readFile(template.state))
    if (whole) this.#whole.set(place, seen)
    return whole
  }
}

const withoutTemplate = (error: unknown): Progress => ({
  step: 'booting without a template',
  done: null,
  total: null,
  unit: null,
  detail: error instanceof Error ? error.message : String(error),
})

/** Changes with whatever is done to the files; null when one is not there. */
const printOf = async (paths: readonly string[]): Promise<string | null> => {
  try {
    const all = await Promise.all(paths.map((path) => stat(path, { bigint: true })))
    return all.map(({ ino, ctimeNs }) => `${ino} ${ctimeNs}`).join(' ')
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null
    throw error
  }
}

const sha256 = (content: string | Uint8Array): string => createHash('sha256').update(content).digest('hex')

const syncFiles = async (paths: readonly string[]): Promise<void> => {
  for (const path of paths) {
    await using file = await open(path, 'r')
    await file.sync()
  }
}
