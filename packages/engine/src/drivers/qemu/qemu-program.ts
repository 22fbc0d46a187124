import { PyroError } from '@pyro/protocol'
import type { VmmSpec } from '@pyro/protocol/guest'
import { runProgram } from '../../process/program.ts'
import type { Kvm } from '../microvm/kvm.ts'
import { VmmProgram } from '../microvm/vmm-program.ts'
import type { Accelerator } from './command-line.ts'

/** The first that maps the memory of a template without the right to write to it. */
const OLDEST = '8.2'
/** What a machine of this board reads beside its kernel. */
const FIRMWARE = ['/usr/share/seabios/bios-microvm.bin', '/usr/share/qemu/linuxboot_dma.bin'] as const
const DEVICES = ['/dev/null'] as const
const MEASURE_TIMEOUT_MS = 5_000

/** QEMU as it is installed here. */
export class QemuProgram extends VmmProgram {
  readonly #kvm: Kvm

  constructor(kvm: Kvm) {
    super('qemu-system-x86_64')
    this.#kvm = kvm
  }

  /** Null when it can do what machines need. */
  tooOld(): Promise<string | null> {
    return this.olderThan(OLDEST)
  }

  /** The program, what it is linked with, firmware and devices. */
  async mountsFor(accelerator: Accelerator): Promise<VmmSpec['mounts']> {
    return [
      ...(await this.mounts()),
      ...FIRMWARE.map((file) => ({ source: file, target: file, access: 'read' as const })),
      ...DEVICES.map((device) => ({ source: device, target: device, access: 'device' as const })),
      ...(accelerator === 'kvm' ? [this.#kvm.mount] : []),
    ]
  }

  /** Groups in which the program may open its devices. */
  async groupsFor(accelerator: Accelerator): Promise<number[]> {
    return accelerator === 'kvm' ? this.#kvm.groups() : []
  }
}

/** Rate of the processor's time stamp counter, measured by the agent; it is the same as long as the host runs. */
export const counterKhz = async (agentPath: string): Promise<number> => {
  const { stdout } = await runProgram(agentPath, ['counter'], { timeoutMs: MEASURE_TIMEOUT_MS })
  const khz = Number(stdout)
  if (khz > 0) return khz
  throw new PyroError('driver.unavailable', 'the rate of this processor is not known')
}
