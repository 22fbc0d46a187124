import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { open, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { CONFIG_DISK_BYTES, type MachineConfig, type VmmSpec } from '@pyro/protocol/guest'
import { PyroError } from '@pyro/protocol'
import { DISK_FILE, type Volume } from '../../disk/disk-store.ts'
import type { SandboxSpec } from '../../driver/driver.ts'
import { errnoOf } from '../../process/identity.ts'
import type { GuestKernels } from '../microvm/guest-kernel.ts'
import { missingProgram } from '../monitored/missing-program.ts'
import type { SandboxPaths } from '../monitored/sandbox-paths.ts'
import type { Bundle, Technology } from '../monitored/technology.ts'
import { qemuArguments, SEEN, type OpenedDisk } from './command-line.ts'
import { loadState } from './migration.ts'
import { counterKhz, QemuProgram } from './qemu-program.ts'
import { Qmp } from './qmp.ts'
import { Templates } from './templates.ts'

const MIB = 1024 * 1024
const INSTALL = 'apt-get install -t bookworm-backports qemu-system-x86'
const ENTROPY_BYTES = 64
/** Of the guest's console, the newest is kept. */
const CONSOLE_BYTES = 256 * 1024
/** Of the host: the VMM itself and the code that it translates. */
const OVERHEAD_MIB = 256
/** Of the guest: its kernel and agent. What was asked for is for commands. */
const GUEST_MIB = 64
/** Descriptions of pages take a part of all memory. */
const GUEST_PART = 32

/** `microvm`: a kernel of its own on a machine of its own, which qemu emulates. */
export function qemuTechnology(options: {
  /** Holds templates. */
  readonly folder: string
  readonly runtimeDir: string
  readonly agentPath: string
  readonly kernels: GuestKernels
}): Technology {
  const program = new QemuProgram()
  const templates = new Templates({ ...options, program })
  return {
    id: 'qemu',
    isolation: 'microvm',
    emulated: true,
    limits: { commandsApart: false, overheadMib: OVERHEAD_MIB, entered: 'by-monitor' },
    volumes: 'images',
    ids: 'alone',
    logLimitBytes: CONSOLE_BYTES,
    ownClock: true,
    flush: 'sync',
    async missing() {
      const lacking = await missingProgram(program, INSTALL)
      if (lacking !== null) return lacking
      const detail = await program.tooOld()
      return detail === null ? null : { ok: false, detail, fix: INSTALL }
    },
    version: () => program.version(),
    async prepare(signal) {
      await options.kernels.obtain({ signal, onProgress: () => undefined })
    },
    async prune({ all }) {
      const kernel = all ? null : await options.kernels.present()
      return [...(await templates.prune(kernel)), ...(await options.kernels.prune(kernel))]
    },
    async writeBundle(spec, bundle) {
      const never = new AbortController().signal
      const kernel = await options.kernels.obtain({ signal: never, onProgress: () => undefined })
      const disks = await Promise.all((spec.inspects.length > 0 ? spec.inspects : [spec.volume]).map(openableDisk))
      const shape = { vcpus: spec.vcpus, memoryMib: machineMib(spec.memoryMib), disks: disks.map(({ bytes }) => bytes) }
      const template = await templates.obtain(kernel, shape, bundle.ids.base)
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
    runtime: (_paths, agentBinary) => Promise.resolve({ runtime: [agentBinary, 'vmm'], runtimeLogFile: null }),
    async begin(paths, signal) {
      using qmp = await Qmp.connect(controlSocket(paths), signal)
      await loadState(qmp, signal)
    },
  }
}

const machineMib = (memoryMib: number): number => memoryMib + GUEST_MIB + Math.ceil(memoryMib / GUEST_PART)

const controlSocket = (paths: SandboxPaths): string => join(paths.folder, 'qmp.sock')

const writeConfigDisk = async ({ paths, agentConfig }: Bundle, spec: SandboxSpec): Promise<string> => {
  const { filesystem, inspects } = spec
  if (filesystem === null)
    throw new PyroError('internal', `${spec.sandboxId} has no filesystem that its disk should hold`)
  const config: MachineConfig = {
    agent: agentConfig,
    entropy: randomBytes(ENTROPY_BYTES).toString('base64'),
    limits: { memoryBytes: spec.memoryMib * MIB, pidsMax: spec.pidsMax },
    root: inspects.length > 0 ? null : { uuid: filesystem },
    inspect: inspects.map(() => ({ uuid: filesystem })),
  }
  const path = join(paths.folder, 'config.raw')
  const disk = Buffer.alloc(CONFIG_DISK_BYTES)
  disk.write(JSON.stringify(config))
  await writeFile(path, disk, { mode: 0o600 })
  return path
}

const openableDisk = async ({
  path: folder,
  writable,
}: Volume): Promise<OpenedDisk & { readonly path: string; readonly bytes: number }> => {
  const path = join(folder, DISK_FILE)
  const { size: bytes } = await stat(path)
  return { path, bytes, writable, direct: await canPassByCache(path) }
}

/** Not on every filesystem (tmpfs). */
const canPassByCache = async (disk: string): Promise<boolean> => {
  try {
    await using _file = await open(disk, constants.O_RDONLY | constants.O_DIRECT)
    return true
  } catch (error) {
    if (errnoOf(error) === 'EINVAL') return false
    throw error
  }
}
