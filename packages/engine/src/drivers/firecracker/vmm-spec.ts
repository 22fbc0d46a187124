import { SOCKETS, INSIDE } from './machine.ts'
import type { VmmSpec } from '@pyro/protocol/guest'

/** What of the host is the same for all machines. */
export interface FirecrackerHost {
  readonly program: string
  /** What the program needs to see of itself. */
  readonly programMounts: VmmSpec['mounts']
  readonly kvm: { readonly mount: VmmSpec['mounts'][number]; readonly groups: number[] }
}

interface MachineFiles {
  /** User and group that Firecracker runs as. */
  readonly owner: number
  /** Folder that it makes its sockets in. */
  readonly sockets: string
  readonly config: string
  readonly memory: string
  readonly state: string
}

/** Boots; what it saves and the empty disks it boots with belong to it. */
export const templateVmm = (
  host: FirecrackerHost,
  files: MachineFiles & { readonly kernel: string; readonly initramfs: string; readonly disks: readonly string[] },
): VmmSpec => ({
  ...base(host, files),
  mounts: [
    ...baseMounts(host, files),
    { source: files.kernel, target: INSIDE.kernel, access: 'read' },
    { source: files.initramfs, target: INSIDE.initramfs, access: 'read' },
    { source: files.memory, target: INSIDE.memory, access: 'write' },
    { source: files.state, target: INSIDE.state, access: 'write' },
    ...files.disks.map((source, at) => ({ source, target: INSIDE.disk(at), access: 'write' as const })),
  ],
})

/** Continues a template, which it cannot write to; its disks belong to root of the host, whoever uses them. */
export const sandboxVmm = (
  host: FirecrackerHost,
  files: MachineFiles & {
    readonly channel: string
    readonly disks: readonly { readonly path: string; readonly writable: boolean }[]
  },
): VmmSpec => ({
  ...base(host, files),
  mounts: [
    ...baseMounts(host, files),
    { source: files.memory, target: INSIDE.memory, access: 'read' },
    { source: files.state, target: INSIDE.state, access: 'read' },
    { source: files.channel, target: INSIDE.channel, access: 'read' },
    ...files.disks.map(({ path, writable }, at) => ({
      source: path,
      target: INSIDE.disk(at),
      access: writable ? ('own-write' as const) : ('own-read' as const),
    })),
  ],
})

const base = (host: FirecrackerHost, { owner }: MachineFiles): Omit<VmmSpec, 'mounts'> => ({
  // Its log and the guest's console are both its output: the log says why a request failed, and nothing of those that did not.
  argv: [host.program, '--api-sock', `${INSIDE.sockets}/${SOCKETS.api}`, '--level', 'Warning'],
  id: owner,
  groups: host.kvm.groups,
  files: [],
  listen: '',
})

const baseMounts = (host: FirecrackerHost, files: MachineFiles): VmmSpec['mounts'] => [
  ...host.programMounts,
  host.kvm.mount,
  { source: files.sockets, target: INSIDE.sockets, access: 'write' },
  { source: files.config, target: INSIDE.config, access: 'read' },
]
