import { randomBytes } from 'node:crypto'
import { readdir, readFile, rm, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import type { VmmSpec } from '@pyro/protocol/guest'
import { hostIdentity } from '../microvm/kvm.ts'
import { SEEN } from '../microvm/machine-shape.ts'
import { bootTemplate } from '../microvm/template-boot.ts'
import type { TemplateMaker } from '../microvm/templates.ts'
import { qemuArguments, type MachineShape } from './command-line.ts'
import { saveState } from './migration.ts'
import { counterKhz, type QemuProgram } from './qemu-program.ts'
import { Qmp } from './qmp.ts'

const MIB = 1024 * 1024

/** Rates within half a percent are one: what a guest's clock is off by is put right all the time. */
const SAME_RATE = 1.005

const SOCKET_PREFIX = 'template-'
/** An emulated guest on a host under load; on a processor it takes a tenth of a second, or never boots. */
const BOOT_TIMEOUT_MS = { tcg: 60_000, kvm: 15_000 } as const

export const qemuTemplates = (options: {
  readonly program: QemuProgram
  /** Its path is short enough for one of a socket. */
  readonly runtimeDir: string
  readonly agentPath: string
}): TemplateMaker<MachineShape> => {
  let measured: Promise<number> | null = null
  /** Once an engine: the same processor elsewhere may count at another rate, which is in the memory of an emulated guest. */
  const rate = async ({ accelerator }: MachineShape): Promise<number | null> => {
    if (accelerator !== 'tcg') return null
    measured ??= counterKhz(options.agentPath)
    return Math.round(Math.log(await measured) / Math.log(SAME_RATE))
  }
  return {
    async depends(shape) {
      const call = qemuArguments({ ...shape, program: '', counterKhz: null, opened: [], template: 'make' })
      return [await options.program.build(), await hostIdentity(), await rate(shape), shape.disks, call]
    },
    memoryBytes: ({ memoryMib }) => memoryMib * MIB,
    diskBytes: ({ disks }) => disks,
    async make({ folder, disks, config, memory, state }, { kernel, machine, owner, signal }) {
      const { program, agentPath } = options
      await truncate(memory, machine.memoryMib * MIB)
      await removeUnheard(options.runtimeDir)
      const control = join(options.runtimeDir, `${SOCKET_PREFIX}${randomBytes(4).toString('hex')}.sock`)
      const vmm: VmmSpec = {
        argv: qemuArguments({
          ...machine,
          program: await program.path(),
          counterKhz: machine.accelerator === 'tcg' ? await counterKhz(agentPath) : null,
          opened: machine.disks.map(() => ({ direct: false, writable: true })),
          template: 'make',
        }),
        id: owner,
        groups: await program.groupsFor(machine.accelerator),
        files: [
          ...disks.map((path) => ({ path, access: 'both' as const, direct: false })),
          { path: config, access: 'read', direct: false },
          { path: state, access: 'write', direct: false },
        ],
        listen: control,
        mounts: [
          ...(await program.mountsFor(machine.accelerator)),
          { source: kernel.image, target: SEEN.kernel, access: 'read' },
          { source: kernel.initramfs, target: SEEN.initramfs, access: 'read' },
          { source: memory, target: SEEN.memory, access: 'write' },
        ],
      }
      const save = async (within: AbortSignal): Promise<void> => {
        using qmp = await Qmp.connect(control, within)
        await saveState(qmp, within)
      }
      const timeoutMs = BOOT_TIMEOUT_MS[machine.accelerator]
      await bootTemplate({ agentPath, folder, vmmName: 'qemu', vmm, timeoutMs, signal, save })
    },
  }
}

/** Sockets of engines that were killed while they made a template: one of each home runs at a time. */
const removeUnheard = async (runtimeDir: string): Promise<void> => {
  const listening = await readFile('/proc/net/unix', 'utf8')
  for (const name of (await readdir(runtimeDir)).filter((entry) => entry.startsWith(SOCKET_PREFIX)))
    if (!listening.includes(join(runtimeDir, name))) await rm(join(runtimeDir, name), { force: true })
}
