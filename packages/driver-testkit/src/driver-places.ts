import { chmodSync, mkdtempSync, realpathSync, rmSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { configFrom, createDrivers, createLog, packageFiles, openDiskStore } from '@pyro/engine'
import type { DriverPlace } from './driver-sandboxes.ts'

/** A home in a temporary folder, with one driver on its disk store. */
export const driverPlace = async (options: {
  readonly agentPath: string
  readonly driver: string
}): Promise<DriverPlace> => {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'pyro-driver-')))
  const runtimeDir = mkdtempSync(join(process.env['PYRO_TEST_RUN_DIR'] ?? '/run', 'd-'))
  chmodSync(runtimeDir, 0o711)
  const home = join(folder, 'home')
  await mkdir(home)
  const config = configFrom(
    {
      PYRO_RUNTIME_DIR: runtimeDir,
      PYRO_TEST_DRIVER: '1',
      PYRO_POOL_STEP_MIB: '512',
      PYRO_HOST_RESERVE_MIB: '64',
    },
    home,
  )
  const disks = await openDiskStore(config, { agentPath: options.agentPath })
  const host = {
    config,
    disks,
    agentBinary: options.agentPath,
    packageFiles: packageFiles(config),
    log: createLog('silent'),
  }
  return {
    disks,
    agentPath: options.agentPath,
    openDriver: () => createDrivers(host).get(options.driver),
    async [Symbol.asyncDispose]() {
      await disks[Symbol.asyncDispose]()
      for (const path of [folder, runtimeDir]) rmSync(path, { recursive: true, force: true })
    },
  }
}
