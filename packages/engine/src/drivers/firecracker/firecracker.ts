import { chown, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { PrepareContext, SandboxSpec } from '../../driver/driver.ts'
import type { Log } from '../../lib/log.ts'
import { discardCauses, makeWithKernel, vmmFile } from '../microvm/failed-start.ts'
import { writeConfigDisk } from '../microvm/config-disk.ts'
import type { GuestKernels } from '../microvm/guest-kernel.ts'
import type { Kvm } from '../microvm/kvm.ts'
import { MACHINE } from '../microvm/machine-technology.ts'
import { disksOf, machineMib, vcpusOf } from '../microvm/machine-shape.ts'
import { Templates } from '../microvm/templates.ts'
import { VmmProgram } from '../microvm/vmm-program.ts'
import { missingProgram } from '../monitored/missing-program.ts'
import type { SandboxPaths } from '../monitored/sandbox-paths.ts'
import type { Technology } from '../monitored/technology.ts'
import { FirecrackerApi } from './api.ts'
import { firecrackerTemplates } from './machine-template.ts'
import { continueTemplate, INSIDE, SOCKETS } from './machine.ts'
import { closeSocketFolder, makeSocketFolder } from './socket-folder.ts'
import { sandboxVmm, type FirecrackerHost } from './vmm-spec.ts'

/** The first that answers a guest whose template was saved while it dialled. */
const OLDEST = '1.16.1'
const INSTALL = `put firecracker ${OLDEST} or later into /usr/local/bin, from https://github.com/firecracker-microvm/firecracker/releases`
/** Of the host, for the VMM itself. */
const OVERHEAD_MIB = 64

/** `microvm`: a kernel of its own on a machine of its own, on KVM. */
export function firecrackerTechnology(options: {
  /** Holds templates. */
  readonly folder: string
  readonly agentPath: string
  readonly kernels: GuestKernels
  readonly kvm: Kvm
  readonly log: Log
}): Technology {
  const program = new VmmProgram('firecracker')
  const host = async (): Promise<FirecrackerHost> => ({
    program: await program.path(),
    programMounts: await program.mounts(),
    kvm: { mount: options.kvm.mount, groups: await options.kvm.groups() },
  })
  const templates = new Templates(
    options.folder,
    firecrackerTemplates({ program, host, agentPath: options.agentPath }),
    options.log,
  )
  /** All that a machine is started from. */
  const machineOf = async (spec: SandboxSpec, owner: number, cx: PrepareContext) => {
    const disks = await disksOf(spec)
    const shown = disks.map(({ bytes, writable }) => ({ bytes, writable }))
    const { memoryMib: commandsMib } = spec
    const machine = { vcpus: vcpusOf(spec), memoryMib: machineMib(commandsMib), commandsMib, disks: shown }
    const template = await makeWithKernel(options.kernels, cx, (kernel) =>
      templates.obtain({ kernel, machine, owner }, cx),
    )
    return { disks, template }
  }
  return {
    ...MACHINE,
    id: 'firecracker',
    limits: { commandsApart: false, hostMemoryMib: (mib) => machineMib(mib) + OVERHEAD_MIB, entered: 'by-monitor' },
    async missing() {
      const lacking = await missingProgram(program, INSTALL)
      if (lacking !== null) return lacking
      const detail = await program.olderThan(OLDEST)
      return detail === null ? options.kvm.missing() : { ok: false, detail, fix: INSTALL }
    },
    version: () => program.version(),
    kernel: () => options.kernels.version(),
    async prepare(spec, owner, cx) {
      await machineOf(spec, owner, cx)
    },
    async writeBundle(spec, bundle, signal) {
      const owner = bundle.ids.base
      const { disks, template } = await machineOf(spec, owner, { signal })
      const config = await writeConfigDisk(bundle, spec)
      await chown(config, owner, owner)
      const sockets = socketFolder(bundle.paths)
      await makeSocketFolder(sockets, owner)
      // Firecracker looks for who listens to its guest beside its own socket; the engine may make its socket anew.
      await symlink(INSIDE.socket, join(sockets, SOCKETS.engine))
      const { channel } = bundle.paths
      const vmm = sandboxVmm(await host(), { owner, sockets, config, channel, disks, ...template })
      await writeFile(vmmFile(bundle.paths), JSON.stringify(vmm), { mode: 0o600 })
    },
    startFailed: (paths) => discardCauses({ ...options, templates }, paths),
    runtime: (_paths, agentBinary) => Promise.resolve({ runtime: [agentBinary, 'vmm'], runtimeLogFile: null }),
    // The guest, and what it may make of Firecracker, finds no folder of the host that it can write to, and nobody who still asks.
    async begin(paths, signal) {
      const sockets = socketFolder(paths)
      const api = await FirecrackerApi.connect(join(sockets, SOCKETS.api), signal)
      await continueTemplate(api, () => closeSocketFolder(sockets))
    },
  }
}

const socketFolder = (paths: SandboxPaths): string => join(paths.folder, 'vmm')
