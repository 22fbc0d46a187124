import { join } from 'node:path'
import { PyroError } from '@pyro/protocol'
import type { DiskStore } from '../disk/disk-store.ts'
import type { Driver } from '../driver/driver.ts'
import type { EngineConfig } from '../lib/config.ts'
import type { Log } from '../lib/log.ts'
import { fakeTechnology } from './fake/fake.ts'
import { firecrackerTechnology } from './firecracker/firecracker.ts'
import { GuestKernels, type PackageFiles } from './microvm/guest-kernel.ts'
import { Kvm } from './microvm/kvm.ts'
import { removeHalfMade } from './microvm/whole-folder.ts'
import { MonitoredDriver } from './monitored/monitored-driver.ts'
import { qemuTechnology } from './qemu/qemu.ts'
import { runcTechnology } from './oci/runc.ts'
import { runscTechnology } from './oci/runsc.ts'

/** The drivers of one engine. This file is the only place that names them. */
export interface DriverSet {
  /** All that this build has, the strongest isolation first; the test driver only where the configuration allows it. */
  readonly all: readonly Driver[]
  /** Those that `--driver auto` may take, in this order: never one that shares the host's kernel. */
  readonly automatic: readonly Driver[]
  /** `driver.unavailable` when there is none of this name. */
  get(id: string): Driver
  /** Removes what killed engines left half-made of kernels and templates. */
  tidy(): Promise<void>
}

export interface DriverSetOptions {
  readonly config: EngineConfig
  readonly disks: DiskStore
  readonly agentBinary: string
  readonly packageFiles: PackageFiles
  readonly log: Log
}

export function createDrivers(options: DriverSetOptions): DriverSet {
  const { config, agentBinary: agentPath, packageFiles, log } = options
  // Machines hold nothing of a home: what is made for one serves all that share a cache.
  const folder = config.environmentCache ?? config.home
  const kernels = new GuestKernels({ folder, agentPath, packageFiles, givenPackage: config.guestKernelPackage })
  const runsc = new MonitoredDriver(runscTechnology(), options)
  const runc = new MonitoredDriver(runcTechnology(), options)
  const fake = new MonitoredDriver(fakeTechnology(), options)
  const kvm = new Kvm(config.kvmDevice)
  const machines = { folder, runtimeDir: config.runtimeDir, agentPath, kernels, kvm, log }
  const qemu = new MonitoredDriver(qemuTechnology({ ...machines, templates: config.machineTemplates }), options)
  const firecracker = new MonitoredDriver(firecrackerTechnology(machines), options)
  const all: readonly Driver[] = [firecracker, qemu, runsc, runc, ...(config.testDriver ? [fake] : [])]
  return {
    all,
    automatic: [firecracker, qemu, runsc],
    get(id) {
      const driver = all.find((candidate) => candidate.id === id)
      if (driver !== undefined) return driver
      throw new PyroError('driver.unavailable', `there is no driver ${id} here`, {
        hint: `drivers: ${all.map((candidate) => candidate.id).join(', ')}`,
      })
    },
    async tidy() {
      for (const name of ['kernels', 'templates']) await removeHalfMade(join(folder, name))
    },
  }
}
