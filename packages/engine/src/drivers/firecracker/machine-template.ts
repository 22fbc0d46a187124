import { chown, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { hostIdentity } from '../microvm/kvm.ts'
import { bootTemplate } from '../microvm/template-boot.ts'
import type { TemplateMaker } from '../microvm/templates.ts'
import type { VmmProgram } from '../microvm/vmm-program.ts'
import { FirecrackerApi } from './api.ts'
import { boot, bootRequests, save, SOCKETS, type FirecrackerMachine } from './machine.ts'
import { makeSocketFolder } from './socket-folder.ts'
import { vmlinuxOf } from './vmlinux.ts'
import { templateVmm, type FirecrackerHost } from './vmm-spec.ts'

const MIB = 1024 * 1024
/** It takes a tenth of a second, or never boots. */
const BOOT_TIMEOUT_MS = 15_000

export const firecrackerTemplates = (options: {
  readonly program: VmmProgram
  readonly host: () => Promise<FirecrackerHost>
  readonly agentPath: string
}): TemplateMaker<FirecrackerMachine> => ({
  async depends(machine) {
    const requests = bootRequests(machine).map(({ path, body }) => [path, body])
    return ['firecracker', await options.program.build(), await hostIdentity(), machine.disks, requests]
  },
  memoryBytes: ({ memoryMib }) => memoryMib * MIB,
  diskBytes: ({ disks }) => disks.map(({ bytes }) => bytes),
  async make({ folder, disks, config, memory, state }, { kernel, machine, owner, signal }) {
    const sockets = join(folder, 'sockets')
    const vmlinux = join(folder, 'vmlinux')
    await makeSocketFolder(sockets, owner)
    await writeFile(vmlinux, vmlinuxOf(await readFile(kernel.image)), { mode: 0o644 })
    for (const path of [config, ...disks]) await chown(path, owner, owner)
    const vmm = templateVmm(await options.host(), {
      owner,
      sockets,
      config,
      memory,
      state,
      disks,
      kernel: vmlinux,
      initramfs: kernel.initramfs,
    })
    const connect = (within: AbortSignal): Promise<FirecrackerApi> =>
      FirecrackerApi.connect(join(sockets, SOCKETS.api), within)
    await bootTemplate({
      agentPath: options.agentPath,
      folder,
      vmmName: 'firecracker',
      vmm,
      timeoutMs: BOOT_TIMEOUT_MS,
      signal,
      begin: async (within) => boot(await connect(within), machine),
      save: async (within) => save(await connect(within)),
    })
    await rm(vmlinux)
    await rm(sockets, { recursive: true })
  },
})
