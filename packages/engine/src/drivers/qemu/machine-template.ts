import { randomBytes } from 'node:crypto'
import { truncate } from 'node:fs/promises'
import { join } from 'node:path'
import type { VmmSpec } from '@pyro/protocol/guest'
import { SEEN } from '../microvm/machine-shape.ts'
import { bootTemplate } from '../microvm/template-boot.ts'
import type { TemplateMaker } from '../microvm/templates.ts'
import { qemuArguments, type MachineShape } from './command-line.ts'
import { saveState } from './migration.ts'
import { counterKhz, type QemuProgram } from './qemu-program.ts'
import { Qmp } from './qmp.ts'

const MIB = 1024 * 1024

export const qemuTemplates = (options: {
  readonly program: QemuProgram
  /** Its path is short enough for one of a socket. */
  readonly runtimeDir: string
  readonly agentPath: string
}): TemplateMaker<MachineShape> => ({
  async depends(shape) {
    const call = qemuArguments({ ...shape, program: '', counterKhz: 0, opened: [], template: 'make' })
    return [await options.program.build(), shape.disks, call]
  },
  diskBytes: ({ disks }) => disks,
  async make({ folder, disks, config, memory, state }, { kernel, machine, owner }) {
    const { program, agentPath } = options
    await truncate(memory, machine.memoryMib * MIB)
    const control = join(options.runtimeDir, `template-${randomBytes(4).toString('hex')}.sock`)
    const vmm: VmmSpec = {
      argv: qemuArguments({
        ...machine,
        program: await program.path(),
        counterKhz: await counterKhz(),
        opened: machine.disks.map(() => ({ direct: false, writable: true })),
        template: 'make',
      }),
      id: owner,
      groups: [],
      files: [
        ...disks.map((path) => ({ path, access: 'both' as const, direct: false })),
        { path: config, access: 'read', direct: false },
        { path: state, access: 'write', direct: false },
      ],
      listen: control,
      mounts: [
        ...(await program.mounts()),
        { source: kernel.image, target: SEEN.kernel, access: 'read' },
        { source: kernel.initramfs, target: SEEN.initramfs, access: 'read' },
        { source: memory, target: SEEN.memory, access: 'write' },
      ],
    }
    const save = async (signal: AbortSignal): Promise<void> => {
      using qmp = await Qmp.connect(control, signal)
      await saveState(qmp, signal)
    }
    await bootTemplate({ agentPath, folder, vmmName: 'qemu', vmm, save })
  },
})
