import { join } from 'node:path'
import { PyroError } from '@pyro/protocol'
import type { VmmSpec } from '@pyro/protocol/guest'
import { z } from 'zod'
import type { PrepareContext, Probe, SandboxSpec } from '../../driver/driver.ts'
import { readJsonFile, writeJsonFile } from '../../lib/json-file.ts'
import type { Log } from '../../lib/log.ts'
import { discardCauses, vmmFile } from '../microvm/failed-start.ts'
import { writeConfigDisk } from '../microvm/config-disk.ts'
import type { GuestKernels } from '../microvm/guest-kernel.ts'
import type { Kvm } from '../microvm/kvm.ts'
import { MACHINE } from '../microvm/machine-technology.ts'
import { disksOf, machineMib, SEEN, vcpusOf } from '../microvm/machine-shape.ts'
import { Templates, type Template, type TemplateRequest } from '../microvm/templates.ts'
import { removeHalfMade } from '../microvm/whole-folder.ts'
import { missingProgram } from '../monitored/missing-program.ts'
import type { SandboxPaths } from '../monitored/sandbox-paths.ts'
import type { Technology } from '../monitored/technology.ts'
import { Acceleration } from './acceleration.ts'
import { beginsWithTemplate, qemuArguments, type MachineShape } from './command-line.ts'
import { qemuTemplates } from './machine-template.ts'
import { HostSpaceWatch } from './host-space.ts'
import { loadState } from './migration.ts'
import { counterKhz, QemuProgram } from './qemu-program.ts'
import { Qmp } from './qmp.ts'

const INSTALL = 'apt-get install -t bookworm-backports qemu-system-x86'
/** Of the host: the VMM itself and the code that it translates. */
const OVERHEAD_MIB = 256

/** `microvm`: a kernel of its own on a machine of its own, which qemu emulates where guests do not boot on KVM. */
export function qemuTechnology(options: {
  /** Holds templates. */
  readonly folder: string
  readonly runtimeDir: string
  readonly agentPath: string
  readonly kernels: GuestKernels
  readonly kvm: Kvm
  readonly log: Log
  /** False: each machine boots. */
  readonly templates: boolean
}): Technology {
  const program = new QemuProgram(options.kvm)
  const templates = new Templates(options.folder, qemuTemplates({ ...options, program }), options.log)
  const acceleration = new Acceleration({ ...options, program, templates })
  /** Null: the machine boots, which takes longer and is the same otherwise. */
  const templateOf = async (request: TemplateRequest<MachineShape>, cx: PrepareContext): Promise<Template | null> =>
    options.templates ? templates.obtainIfPossible(request, cx) : null
  /** All that a machine is started from. */
  const machineOf = async (spec: SandboxSpec, owner: number, cx: PrepareContext) => {
    const kernel = await options.kernels.obtain(cx)
    const disks = await disksOf(spec)
    const shape = {
      accelerator: await acceleration.accelerator(owner, cx),
      vcpus: vcpusOf(spec),
      memoryMib: machineMib(spec.memoryMib),
      commandsMib: spec.memoryMib,
      disks: disks.map(({ bytes }) => bytes),
    }
    return { kernel, disks, shape, template: await templateOf({ kernel, machine: shape, owner }, cx) }
  }
  const missing = async (): Promise<Probe | null> => {
    const lacking = await missingProgram(program, INSTALL)
    if (lacking !== null) return lacking
    const detail = await program.tooOld()
    return detail === null ? null : { ok: false, detail, fix: INSTALL }
  }
  return {
    ...MACHINE,
    id: 'qemu',
    accelerated: async (owner, cx) => (await missing()) ?? acceleration.probe(owner, cx),
    limits: { commandsApart: false, hostMemoryMib: (mib) => machineMib(mib) + OVERHEAD_MIB, entered: 'by-monitor' },
    missing,
    version: () => program.version(),
    async prepare(spec, owner, cx) {
      // A workspace may be older than what is installed now.
      const lacking = await missing()
      if (lacking !== null)
        throw new PyroError('driver.unavailable', `driver qemu does not work on this host: ${lacking.detail}`, {
          hint: lacking.fix ?? 'pyro doctor',
          data: { driver: 'qemu', detail: lacking.detail },
        })
      await machineOf(spec, owner, cx)
    },
    kernel: () => options.kernels.version(),
    async prune({ all, inUse }) {
      // Counted before anybody looks for a kernel, who removes them.
      const halfMade = await removeHalfMade(join(options.folder, 'kernels'))
      const kernel = all && !inUse ? null : await options.kernels.present()
      const unused = [...(await templates.prune(all ? null : kernel)), ...(await options.kernels.prune(kernel))]
      return [...halfMade, ...unused]
    },
    async writeBundle(spec, bundle, signal) {
      const { kernel, disks, shape, template } = await machineOf(spec, bundle.ids.base, { signal })
      const config = await writeConfigDisk(bundle, spec)
      const vmm: VmmSpec = {
        argv: qemuArguments({
          ...shape,
          program: await program.path(),
          // With a template the guest has it from there.
          counterKhz: template === null && shape.accelerator === 'tcg' ? await counterKhz(options.agentPath) : null,
          opened: disks,
          template: template === null ? 'none' : 'use',
        }),
        id: bundle.ids.base,
        groups: await program.groupsFor(shape.accelerator),
        files: [
          ...disks.map(({ path, writable, direct }) => ({
            path,
            access: writable ? ('both' as const) : ('read' as const),
            direct,
          })),
          { path: config, access: 'read', direct: false },
          ...(template === null ? [] : [{ path: template.state, access: 'read' as const, direct: false }]),
        ],
        listen: controlSocket(bundle.paths),
        mounts: [
          ...(await program.mountsFor(shape.accelerator)),
          { source: kernel.image, target: SEEN.kernel, access: 'read' },
          { source: kernel.initramfs, target: SEEN.initramfs, access: 'read' },
          ...(template === null ? [] : [{ source: template.memory, target: SEEN.memory, access: 'read' as const }]),
          { source: bundle.paths.channel, target: SEEN.channel, access: 'read' },
        ],
      }
      await writeJsonFile(vmmFile(bundle.paths), vmm)
    },
    watch: (paths, wentOn) => new HostSpaceWatch(controlSocket(paths), wentOn),
    startFailed: (paths) => discardCauses({ ...options, templates }, paths),
    runtime: (_paths, agentBinary) => Promise.resolve({ runtime: [agentBinary, 'vmm'], runtimeLogFile: null }),
    async begin(paths, signal) {
      const vmm = await readJsonFile(vmmFile(paths), z.object({ argv: z.array(z.string()) }))
      if (!beginsWithTemplate(vmm?.argv ?? [])) return
      using qmp = await Qmp.connect(controlSocket(paths), signal)
      await loadState(qmp, signal)
    },
  }
}

const controlSocket = (paths: SandboxPaths): string => join(paths.folder, 'qmp.sock')
