import { readFile } from 'node:fs/promises'
import { PyroError } from '@pyro/protocol'
import type { VmmSpec } from '@pyro/protocol/guest'
import { VmmProgram } from '../microvm/vmm-program.ts'

/** The first that maps the memory of a template without the right to write to it. */
const OLDEST = '8.2'
/** What a machine of this board reads beside its kernel. */
const FIRMWARE = ['/usr/share/seabios/bios-microvm.bin', '/usr/share/qemu/linuxboot_dma.bin'] as const
const DEVICES = ['/dev/null'] as const

/** QEMU as it is installed here. */
export class QemuProgram extends VmmProgram {
  constructor() {
    super('qemu-system-x86_64')
  }

  /** Null when it can do what machines need. */
  tooOld(): Promise<string | null> {
    return this.olderThan(OLDEST)
  }

  override async mounts(): Promise<VmmSpec['mounts']> {
    return [
      ...(await super.mounts()),
      ...FIRMWARE.map((file) => ({ source: file, target: file, access: 'read' as const })),
      ...DEVICES.map((device) => ({ source: device, target: device, access: 'device' as const })),
    ]
  }
}

/** As the kernel of the host knows it; the first processor's, as they all count alike. */
export const counterKhz = async (): Promise<number> => {
  const mhz = /^cpu MHz\s*:\s*([\d.]+)/m.exec(await readFile('/proc/cpuinfo', 'utf8'))?.[1]
  if (mhz === undefined) throw new PyroError('driver.unavailable', 'the rate of this processor is not known')
  return Math.round(Number(mhz) * 1000)
}
