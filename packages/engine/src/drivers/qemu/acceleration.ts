import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isPyroError } from '@pyro/protocol'
import { z } from 'zod'
import type { PrepareContext, Probe } from '../../driver/driver.ts'
import { readJsonFile, writeJsonFile } from '../../lib/json-file.ts'
import { SharedWork } from '../../lib/shared-work.ts'
import { callerOf, type GuestKernel, type GuestKernels } from '../microvm/guest-kernel.ts'
import type { Kvm } from '../microvm/kvm.ts'
import { PassingFailures } from '../microvm/passing-failures.ts'
import type { Templates } from '../microvm/templates.ts'
import type { Accelerator, MachineShape } from './command-line.ts'
import type { QemuProgram } from './qemu-program.ts'

/** The machine that is tried: what any guest needs, and no disk. */
const TRIED: MachineShape = { accelerator: 'kvm', vcpus: 1, memoryMib: 256, commandsMib: 64, disks: [] }

/** There is one thing to try. */
const WORK = 'kvm'

const verdictSchema = z.strictObject({
  /** Of the host's boot: another kernel may change everything. */
  bootId: z.string(),
  /** Of qemu, the guest's kernel and the device. */
  build: z.string(),
  probe: z.strictObject({ ok: z.boolean(), detail: z.string(), fix: z.string().nullable() }),
})

interface AccelerationOptions {
  /** Holds the verdict. */
  readonly folder: string
  readonly kernels: GuestKernels
  readonly kvm: Kvm
  readonly program: QemuProgram
  readonly templates: Templates<MachineShape>
}

/**
 * Whether guests run on the processor itself. That /dev/kvm can be opened says little (nested and paravirtual hosts): a guest is
 * booted, once per boot of the host, build of qemu and kernel of guests.
 */
export class Acceleration {
  readonly #options: AccelerationOptions
  readonly #work = new SharedWork<Probe>()
  /** What says nothing of KVM itself. */
  readonly #failures = new PassingFailures<Probe>()

  constructor(options: AccelerationOptions) {
    this.#options = options
  }

  /** `owner` is the user of the host that the VMM runs as. */
  async accelerator(owner: number, cx: PrepareContext): Promise<Accelerator> {
    return (await this.probe(owner, cx)).ok ? 'kvm' : 'tcg'
  }

  async probe(owner: number, cx: PrepareContext): Promise<Probe> {
    const lacking = await this.#options.kvm.missing()
    if (lacking !== null) return lacking
    const passing = this.#failures.of(WORK)
    if (passing !== null) return passing
    const kernel = await this.#kernel(cx)
    if ('ok' in kernel) return kernel
    const bootId = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim()
    const build = `${await this.#options.program.build()} ${kernel.id} ${this.#options.kvm.device}`
    const known = await readJsonFile(this.#file, verdictSchema)
    if (known?.bootId === bootId && known.build === build) return known.probe
    return this.#work.join(WORK, callerOf(cx), async (signal, onProgress) => {
      onProgress({ step: 'trying whether guests boot on KVM', done: null, total: null, unit: null, detail: null })
      const { probe, lasts } = await this.#boot(kernel, owner, signal)
      if (!lasts) return this.#failures.note(WORK, probe)
      await writeJsonFile(this.#file, { bootId, build, probe })
      return probe
    })
  }

  /** Without one nothing is known of KVM, and other drivers may do. */
  async #kernel(cx: PrepareContext): Promise<GuestKernel | Probe> {
    try {
      return await this.#options.kernels.obtain(cx)
    } catch (error) {
      cx.signal.throwIfAborted()
      const detail = `no guest was booted on KVM: ${messageOf(error)}`
      return this.#failures.note(WORK, { ok: false, detail, fix: null })
    }
  }

  /** What a VMM that ended says of KVM lasts. */
  async #boot(kernel: GuestKernel, owner: number, signal: AbortSignal): Promise<{ probe: Probe; lasts: boolean }> {
    const begun = performance.now()
    try {
      await this.#options.templates.tryOut({ kernel, machine: TRIED, owner, signal })
      const detail = `a guest booted in ${Math.round(performance.now() - begun)} ms`
      return { probe: { ok: true, detail, fix: null }, lasts: true }
    } catch (error) {
      signal.throwIfAborted()
      const detail = `${this.#options.kvm.device} is there, but no guest boots on it: ${messageOf(error)}`
      const isOfKvm = isPyroError(error) && error.data?.['ended'] === true && !(await this.#options.kernels.doubt())
      return { probe: { ok: false, detail, fix: null }, lasts: isOfKvm }
    }
  }

  get #file(): string {
    return join(this.#options.folder, 'kvm.json')
  }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))
