import { guestArguments } from '../microvm/guest-kernel.ts'
import { SEEN } from '../microvm/machine-shape.ts'
import type { FirecrackerApi } from './api.ts'
import {
  addDrive,
  configureMachine,
  createSnapshot,
  loadSnapshot,
  pause,
  resume,
  setBootSource,
  setVsock,
  startInstance,
  type ApiRequest,
} from './requests.ts'

/** The port of the host that the agent dials (guest/internal/machine). */
const ENGINE_PORT = 1024
/** Each VMM has a vsock of its own: the guests need no different numbers. The first that a guest may have. */
const GUEST_CID = 3

/** Files in the folder that Firecracker makes its sockets in. */
export const SOCKETS = { api: 'api.sock', vsock: 'link.sock', engine: `link.sock_${ENGINE_PORT}` } as const

/** Where files of ours stand in Firecracker's root, beside those of any VMM. */
export const INSIDE = {
  ...SEEN,
  state: '/pyro/state',
  sockets: '/pyro/sockets',
  config: '/pyro/config.raw',
  disk: (at: number): string => `/pyro/disk${at}.raw`,
} as const

export interface FirecrackerMachine {
  readonly vcpus: number
  /** Of the whole machine, and of it for user commands. */
  readonly memoryMib: number
  readonly commandsMib: number
  /** The root first. */
  readonly disks: readonly { readonly bytes: number; readonly writable: boolean }[]
}

/** A reboot through the keyboard controller ends the VMM. */
const KERNEL_ARGUMENTS = ['console=ttyS0', 'quiet', 'reboot=k', 'panic=-1'] as const

/** A machine has a console, its config's disk and its own, and a vsock: no network, nothing that it does not need. */
export const bootRequests = (machine: FirecrackerMachine): readonly ApiRequest<null>[] => [
  configureMachine(machine),
  setBootSource({
    kernel: INSIDE.kernel,
    initramfs: INSIDE.initramfs,
    args: [...KERNEL_ARGUMENTS, ...guestArguments(machine.commandsMib)].join(' '),
  }),
  addDrive({ id: 'config', path: INSIDE.config, writable: false }),
  ...machine.disks.map(({ writable }, at) => addDrive({ id: `disk${at}`, path: INSIDE.disk(at), writable })),
  setVsock({ guestCid: GUEST_CID, path: `${INSIDE.sockets}/${SOCKETS.vsock}` }),
  startInstance,
]

export const boot = async (api: FirecrackerApi, machine: FirecrackerMachine): Promise<void> => {
  for (const request of bootRequests(machine)) await api.send(request)
}

export const save = async (api: FirecrackerApi): Promise<void> => {
  await api.send(pause)
  await api.send(createSnapshot(INSIDE))
}

/**
 * Continues a template. Its disks, its vsock and its memory are opened by the paths that they had: in the root of this VMM these
 * are the sandbox's own. `loaded` is called when all of them are open and nothing of the guest runs yet.
 */
export const continueTemplate = async (api: FirecrackerApi, loaded: () => Promise<void>): Promise<void> => {
  await api.send(loadSnapshot(INSIDE))
  await loaded()
  await api.send(resume)
}
