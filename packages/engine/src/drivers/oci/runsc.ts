import { dirname } from 'node:path'
import { liftOpenFiles } from '../../process/open-files.ts'
import { INSIDE, type SandboxPaths } from '../monitored/sandbox-paths.ts'
import type { Technology } from '../monitored/technology.ts'
import { diskTmp, standardConfig, standardMounts, writeConfig, type ConfigChange, type Mount } from './bundle.ts'
import { missingProgram } from '../monitored/missing-program.ts'
import { RuntimeProgram } from '../monitored/runtime-program.ts'

/** Releases are named by their date. From this one on systrap and `--host-uds` exist. */
const OLDEST_WITH_SYSTRAP = 20230500
const INSTALL = 'apt-get install -t bookworm-backports runsc'

/** `gvisor`: programs talk to a kernel of their own, written in Go, which runs as a process of the host. */
export function runscTechnology(change: ConfigChange = (config) => config): Technology {
  const program = new RuntimeProgram('runsc')
  const isOld = async (): Promise<boolean> => releaseDate(await program.version()) < OLDEST_WITH_SYSTRAP
  return {
    id: 'runsc',
    isolation: 'gvisor',
    mainProcess: 'its sentry',
    limits: { commandsApart: false, hostMemoryMib: (mib) => mib, entered: 'by-runtime' },
    // What programs inside use is gVisor's; the host sees the one process that is gVisor.
    volumes: 'trees',
    ids: 'shared',
    logLimitBytes: null,
    isMachine: false,
    configBy: 'stdin',
    flush: 'sync',
    missing: () => missingProgram(program, INSTALL),
    async version() {
      const version = await program.version()
      return (await isOld()) ? `${version} (old: slower, ptrace only; better: ${INSTALL})` : version
    },
    async writeBundle(spec, bundle) {
      // What is open inside is so in gVisor's processes, too.
      await liftOpenFiles()
      const mounts = [...standardMounts(spec, bundle, privateRun), ...(await diskTmp(spec))]
      await writeConfig(bundle, change(await standardConfig(spec, bundle, mounts)))
    },
    async runtime(paths) {
      const path = (await program.find()) ?? program.name
      return {
        runtime: [path, ...((await isOld()) ? oldFlags(paths) : flags(paths))],
        runtimeLogFile: paths.runtimeLog,
      }
    },
  }
}

/** gVisor makes the folders of mount points for everybody to write in. */
const privateRun: readonly Mount[] = [
  { destination: dirname(INSIDE.agent), type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'nodev', 'mode=755'] },
]

const common = (paths: SandboxPaths): string[] => [
  `--root=${paths.runtimeState}`,
  `--log=${paths.runtimeLog}`,
  '--network=none',
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
