import type { Technology } from '../monitored/technology.ts'
import { standardConfig, standardMounts, writeConfig, type ConfigChange } from './bundle.ts'
import { kernelCapsHook } from './kernel-caps.ts'
import { liftOpenFiles } from '../../process/open-files.ts'
import { missingProgram } from '../monitored/missing-program.ts'
import { RuntimeProgram } from '../monitored/runtime-program.ts'
import { seccompProfile } from './seccomp.ts'

/** Devices: none but the harmless ones that the runtime adds itself (null, zero, full, random, urandom, tty, pts). */
const NO_DEVICES = [{ allow: false, access: 'rwm' }] as const

/** `container`: the host's kernel, walled off with namespaces, seccomp and few capabilities. */
export function runcTechnology(change: ConfigChange = (config) => config): Technology {
  const program = new RuntimeProgram('runc')
  return {
    id: 'runc',
    isolation: 'container',
    mainProcess: 'its first process',
    limits: { commandsApart: true, hostMemoryMib: (mib) => mib, entered: 'by-runtime' },
    volumes: 'trees',
    ids: 'mapped',
    logLimitBytes: null,
    isMachine: false,
    // One kernel with the host: the engine flushes the volume from outside.
    configBy: 'stdin',
    flush: 'none',
    missing: () => missingProgram(program, 'apt-get install runc'),
    version: () => program.version(),
    async writeBundle(spec, bundle) {
      await liftOpenFiles()
      const config = await standardConfig(spec, bundle, standardMounts(spec, bundle))
      await writeConfig(
        bundle,
        change({
          ...config,
          hooks: { createContainer: [await kernelCapsHook(spec.memoryMib, bundle.ids)] },
          linux: {
            ...config.linux,
            resources: { devices: NO_DEVICES },
            sysctl: { 'net.ipv4.ping_group_range': '0 65535', 'net.ipv4.ip_unprivileged_port_start': '0' },
            seccomp: seccompProfile(process.arch),
          },
        }),
      )
    },
    async runtime(paths) {
      const path = (await program.find()) ?? program.name
      return {
        runtime: [path, '--root', paths.runtimeState, '--log', paths.runtimeLog],
        runtimeLogFile: paths.runtimeLog,
      }
    },
  }
}
