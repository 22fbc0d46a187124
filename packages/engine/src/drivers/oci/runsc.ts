import type { SandboxSpec } from '../../driver/driver.ts'
import type { SandboxPaths } from '../monitored/sandbox-paths.ts'
import type { Technology } from '../monitored/technology.ts'
import { diskTmp, standardConfig, standardMounts, writeConfig, type ConfigChange } from './bundle.ts'
import { missingProgram } from './runc.ts'
import { RuntimeProgram } from './runtime-program.ts'

const MIB = 1024 * 1024
const CPU_PERIOD_US = 100_000
/** Releases are named by their date. From this one on systrap and `--host-uds` exist. */
const OLDEST_WITH_SYSTRAP = 20230500
const INSTALL =
  'apt-get install -t bookworm-backports runsc'

/** `gvisor`: programs talk to a kernel of their own, written in Go, which runs as a process of the host. */
export function runscTechnology(change: ConfigChange = (config) => config): Technology {
  const program = new RuntimeProgram('runsc')
  const isOld = async (): Promise<boolean> => releaseDate(await program.version()) < OLDEST_WITH_SYSTRAP
  return {
    id: 'runsc',
    isolation: 'gvisor',
    limits: { commandsApart: false, monitorEnters: true },
    flush: 'sync',
    missing: () => missingProgram(program, INSTALL),
    async version() {
      const version = await program.version()
      return (await isOld()) ? `${version} (old: slower, ptrace only; better: ${INSTALL})` : version
    },
    async writeBundle(spec, bundle) {
      const config = standardConfig(spec, bundle, [...standardMounts(spec, bundle), ...(await diskTmp(spec))])
      // The limits stand in control groups of ours; gVisor reads here what it shows as memory and processors.
      await writeConfig(bundle, change({ ...config, linux: { ...config.linux, resources: shownResources(spec) } }))
    },
    async runtime(paths) {
      const path = (await program.find()) ?? program.name
      return {
        runtime: [path, ...((await isOld()) ? oldFlags(paths) : flags(paths))],
        createArgs: [],
        runtimeLogFile: paths.runtimeLog,
      }
    },
  }
}

const shownResources = (spec: SandboxSpec): object => ({
  memory: { limit: spec.memoryMib * MIB },
  cpu: { period: CPU_PERIOD_US, quota: Math.round(spec.vcpus * CPU_PERIOD_US) },
})

const common = (paths: SandboxPaths): string[] => [
  `--root=${paths.runtimeState}`,
  `--log=${paths.runtimeLog}`,
  '--network=none',
  '--ignore-cgroups',
  // The sandbox's root filesystem is its disk: nobody else writes to it while it runs.
  '--file-access=exclusive',
]

const flags = (paths: SandboxPaths): string[] => [
  ...common(paths),
  '--platform=systrap',
  '--host-uds=open',
  '--overlay2=none',
  '--cpu-num-from-quota',
]

const oldFlags = (paths: SandboxPaths): string[] => [...common(paths), '--platform=ptrace', '--fsgofer-host-uds']

/** `runsc version release-20240729.0` and `runsc version 0.0~20240729.0` alike. */
export const releaseDate = (version: string): number => Number(/(\d{8})\.\d+/.exec(version)?.[1] ?? 0)
