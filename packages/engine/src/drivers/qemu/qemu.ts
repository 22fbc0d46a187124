import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { VmmSpec } from '@pyro/protocol/guest'
import type { PrepareContext, SandboxSpec } from '../../driver/driver.ts'
import { writeConfigDisk } from '../microvm/config-disk.ts'
import type { GuestKernels } from '../microvm/guest-kernel.ts'
import { MACHINE } from '../microvm/machine-technology.ts'
import { disksOf, machineMib, SEEN } from '../microvm/machine-shape.ts'
import { Templates } from '../microvm/templates.ts'
import { missingProgram } from '../monitored/missing-program.ts'
import type { SandboxPaths } from '../monitored/sandbox-paths.ts'
import type { Technology } from '../monitored/technology.ts'
import { qemuArguments } from './command-line.ts'
import { qemuTemplates } from './machine-template.ts'
import { resumeWhenSpace } from './host-space.ts'
import { loadState } from './migration.ts'
import { counterKhz, QemuProgram } from './qemu-program.ts'
import { Qmp } from './qmp.ts'

const INSTALL = 'apt-get install -t bookworm-backports qemu-system-x86'
/** Of the host: the VMM itself and the code that it translates. */
const OVERHEAD_MIB = 256

/** `microvm`: a kernel of its own on a machine of its own, which qemu emulates. */
export function qemuTechnology(options: {
  /** Holds templates. */
  readonly folder: string
  readonly runtimeDir: string
  readonly agentPath: string
  readonly kernels: GuestKernels
}): Technology {
  const program = new QemuProgram()
  const templates = new Templates(options.folder, qemuTemplates({ ...options, program }))
  /** All that a machine is started from. */
  const machineOf = async (spec: SandboxSpec, owner: number, cx: PrepareContext) => {
    const kernel = await options.kernels.obtain(cx)
    const disks = await disksOf(spec)
    const shape = { vcpus: spec.vcpus, memoryMib: machineMib(spec.memoryMib), disks: disks.map(({ bytes }) => bytes) }
    return { kernel, disks, shape, template: await templates.obtain({ kernel, machine: shape, owner }, cx) }
  }
  return {
    ...MACHINE,
    id: 'qemu',
    emulated: true,
    limits: { commandsApart: false, hostMemoryMib: (mib) => machineMib(mib) + OVERHEAD_MIB, entered: 'by-monitor' },
    async missing() {
      const lacking = await missingProgram(program, INSTALL)
      if (lacking !== null) return lacking
      const detail = await program.tooOld()
      return detail === null ? null : { ok: false, detail, fix: INSTALL }
    },
    version: () => program.version(),
    async prepare(spec, owner, cx) {
      await machineOf(spec, owner, cx)
    },
    async prune({ all }) {
      const kernel = all ? null : await options.kernels.present()
      return [...(await templates.prune(kernel)), ...(await options.kernels.prune(kernel))]
    },
    async writeBundle(spec, bundle, signal) {
      const { kernel, disks, shape, template } = await machineOf(spec, bundle.ids.base, { signal })
      const config = await writeConfigDisk(bundle, spec)
      const vmm: VmmSpec = {
        argv: qemuArguments({
          ...shape,
          program: await program.path(),
          counterKhz: await counterKhz(),
          opened: disks,
          template: 'use',
        }),
        id: bundle.ids.base,
        groups: [],
        files: [
          ...disks.map(({ path, writable, direct }) => ({
            path,
            access: writable ? ('both' as const) : ('read' as const),
            direct,
          })),
          { path: config, access: 'read', direct: false },
          { path: template.state, access: 'read', direct: false },
        ],
        listen: controlSocket(bundle.paths),
        mounts: [
          ...(await program.mounts()),
          { source: kernel.image, target: SEEN.kernel, access: 'read' },
          { source: kernel.initramfs, target: SEEN.initramfs, access: 'read' },
          { source: template.memory, target: SEEN.memory, access: 'read' },
          { source: bundle.paths.channel, target: SEEN.channel, access: 'read' },
        ],
      }
      await writeFile(join(bundle.paths.folder, 'vmm.json'), JSON.stringify(vmm), { mode: 0o600 })
    },
    watch: (paths) => resumeWhenSpace(controlSocket(paths)),
    runtime: (_paths, agentBinary) => Promise.resolve({ runtime: [agentBinary, 'vmm'], runtimeLogFile: null }),
    async begin(paths, signal) {
      using qmp = await Qmp.connect(controlSocket(paths), signal)
      await loadState(qmp, signal)
    },
  }
}

const controlSocket = (paths: SandboxPaths): string => join(paths.folder, 'qmp.sock')
