import { createHash, randomBytes } from 'node:crypto'
import { chmod, chown, mkdir, open, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { sleep } from '../../lib/wait.ts'
import { PyroError } from '@pyro/protocol'
import type { PrunedThing } from '../../driver/driver.ts'
import { CONFIG_DISK_BYTES, type VmmSpec } from '@pyro/protocol/guest'
import { startStreamingProgram } from '../../process/streaming-program.ts'
import type { GuestKernel } from '../microvm/guest-kernel.ts'
import { appear, isThere, namesIn, removeFolders, removeHalfMade } from '../microvm/whole-folder.ts'
import { qemuArguments, SEEN, type MachineShape } from './command-line.ts'
import { saveState } from './migration.ts'
import { Qmp } from './qmp.ts'
import { counterKhz, type QemuProgram } from './qemu-program.ts'

const MIB = 1024 * 1024
const KEY_LENGTH = 16
/** An emulated guest on a host under load. */
const BOOT_TIMEOUT_MS = 60_000
const LOOK_MS = 10
/** What the guest's console shows when it waits to be called (guest/internal/machine). */
const READY_LINE = 'pyro-agent: ready'

/** A machine that booted and touched no disk yet. */
export interface Template {
  /** Guest memory: mapped privately, never written to. */
  readonly memory: string
  /** State of processor and devices. */
  readonly state: string
}

export interface TemplatesOptions {
  /** Holds `templates`. */
  readonly folder: string
  /** Its path is short enough for one of a socket. */
  readonly runtimeDir: string
  readonly program: QemuProgram
  readonly agentPath: string
}

/**
 * `templates`: per machine a folder `<kernel>-<key>` with `memory` and `state`. A folder appears whole, by rename; what bears another
 * name is half-made.
 */
export class Templates {
  readonly #options: TemplatesOptions
  readonly #known = new Map<string, Promise<Template>>()

  constructor(options: TemplatesOptions) {
    this.#options = options
  }

  /** Made when first asked for; one making of each at a time. */
  async obtain(kernel: GuestKernel, shape: MachineShape, owner: number): Promise<Template> {
    const key = await this.#keyOf(kernel, shape)
    const known = this.#known.get(key)
    if (known !== undefined) return known
    const made = this.#obtain(key, kernel, shape, owner)
    this.#known.set(key, made)
    made.catch(() => this.#known.delete(key))
    return made
  }

  /** Removes templates that are not of this kernel; null: all. */
  async prune(kernel: GuestKernel | null): Promise<readonly PrunedThing[]> {
    const folder = join(this.#options.folder, 'templates')
    const unused = (await namesIn(folder)).filter(
      (name) => !name.startsWith('.') && (kernel === null || !name.startsWith(`${kernel.id}-`)),
    )
    for (const name of unused) this.#known.delete(name)
    return removeFolders(folder, unused)
  }

  async #keyOf(kernel: GuestKernel, shape: MachineShape): Promise<string> {
    const call = qemuArguments({ ...shape, program: '', counterKhz: 0, opened: [], template: 'make' })
    const content = [kernel.id, await this.#options.program.build(), shape.disks, call]
    return `${kernel.id}-${createHash('sha256').update(JSON.stringify(content)).digest('hex').slice(0, KEY_LENGTH)}`
  }

  async #obtain(key: string, kernel: GuestKernel, shape: MachineShape, owner: number): Promise<Template> {
    const folder = join(this.#options.folder, 'templates')
    const place = join(folder, key)
    if (!(await isThere(place))) {
      await mkdir(folder, { recursive: true, mode: 0o700 })
      await removeHalfMade(folder)
      await appear(place, (staging) => this.#make(staging, kernel, shape, owner))
    }
    return { memory: join(place, 'memory'), state: join(place, 'state') }
  }

  async #make(folder: string, kernel: GuestKernel, shape: MachineShape, owner: number): Promise<void> {
    const { program, agentPath } = this.#options
    const file = (name: string): string => join(folder, name)
    const disks = shape.disks.map((bytes, at) => [`disk${at}`, bytes] as const)
    for (const [name, bytes] of [
      ['memory', shape.memoryMib * MIB],
      ['state', 0],
      ['config', CONFIG_DISK_BYTES],
      ...disks,
    ] as const) {
      await writeFile(file(name), '', { mode: 0o600 })
      await truncate(file(name), bytes)
    }
    await chown(file('memory'), owner, owner)
    const socket = join(this.#options.runtimeDir, `template-${randomBytes(4).toString('hex')}.sock`)
    const vmm: VmmSpec = {
      argv: qemuArguments({
        ...shape,
        program: await program.path(),
        counterKhz: await counterKhz(),
        opened: shape.disks.map(() => ({ direct: false, writable: true })),
        template: 'make',
      }),
      id: owner,
      files: [
        ...disks.map(([name]) => ({ path: file(name), access: 'both' as const, direct: false })),
        { path: file('config'), access: 'read', direct: false },
        { path: file('state'), access: 'write', direct: false },
      ],
      listen: socket,
      mounts: [
        ...(await program.mounts()),
        { source: kernel.image, target: SEEN.kernel, access: 'read' },
        { source: kernel.initramfs, target: SEEN.initramfs, access: 'read' },
        { source: file('memory'), target: SEEN.memory, access: 'write' },
      ],
    }
    await writeFile(file('vmm.json'), JSON.stringify(vmm), { mode: 0o600 })
    try {
      await this.#boot(agentPath, folder, socket)
    } finally {
      await rm(socket, { force: true })
    }
    await chown(file('memory'), 0, 0)
    await chmod(file('memory'), 0o444)
    for (const name of [...disks.map(([disk]) => disk), 'config', 'vmm.json']) await rm(file(name), { force: true })
    await syncFiles([file('memory'), file('state')])
  }

  async #boot(agentPath: string, folder: string, socket: string): Promise<void> {
    using boot = new DisposableStack()
    const signal = AbortSignal.timeout(BOOT_TIMEOUT_MS)
    let said = ''
    const program = startStreamingProgram(agentPath, ['vmm', 'hold', folder], { stdin: 'ignore', env: {}, signal })
    boot.defer(() => program.kill())
    program.stdout.on('data', (chunk: Buffer) => (said = (said + chunk.toString('utf8')).slice(-8192)))
    let end: Awaited<typeof program.ended> | null = null
    void program.ended.then((value) => (end = value))
    const failed = (what: string): PyroError =>
      new PyroError('workspace.start-failed', `the template of the microVM was not made: ${what}`, {
        data: { console: said },
      })
    while (!said.includes(READY_LINE)) {
      if (end !== null) throw failed(`qemu ended: ${(end as { stderrTail: string }).stderrTail.trim()}`)
      if (signal.aborted) throw failed(`it did not boot within ${BOOT_TIMEOUT_MS / 1000} s`)
      await sleep(LOOK_MS)
    }
    using qmp = await Qmp.connect(socket, signal)
    await saveState(qmp, signal)
    program.kill()
    await program.ended
  }
}

const syncFiles = async (paths: readonly string[]): Promise<void> => {
  for (const path of paths) {
    await using file = await open(path, 'r')
    await file.sync()
  }
}
