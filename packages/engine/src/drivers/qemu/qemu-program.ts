import { readFile, stat } from 'node:fs/promises'
import { PyroError } from '@pyro/protocol'
import type { VmmSpec } from '@pyro/protocol/guest'
import { runProgram } from '../../process/program.ts'
import { RuntimeProgram } from '../monitored/runtime-program.ts'

const NAME = 'qemu-system-x86_64'
/** The first that maps the memory of a template without the right to write to it. */
const OLDEST = { major: 8, minor: 2 } as const
const LDD_TIMEOUT_MS = 5_000
/** What a machine of this board reads beside its kernel. */
const FIRMWARE = ['/usr/share/seabios/bios-microvm.bin', '/usr/share/qemu/linuxboot_dma.bin'] as const
const DEVICES = ['/dev/null'] as const

/** QEMU as it is installed here, and what of the host it has to see. */
export class QemuProgram extends RuntimeProgram {
  #libraries: { readonly build: string; readonly paths: readonly string[] } | null = null

  constructor() {
    super(NAME)
  }

  async path(): Promise<string> {
    const path = await this.find()
    if (path === null) throw new PyroError('driver.unavailable', `the program ${NAME} is not installed`)
    return path
  }

  /** Changes with every other build. */
  async build(): Promise<string> {
    const path = await this.path()
    const { size, mtimeMs } = await stat(path)
    return `${path} ${size} ${mtimeMs}`
  }

  /** Null when it can do what machines need. */
  async tooOld(): Promise<string | null> {
    const version = await this.version()
    const [, major = 0, minor = 0] = (/version (\d+)\.(\d+)/.exec(version) ?? []).map(Number)
    const isOld = major < OLDEST.major || (major === OLDEST.major && minor < OLDEST.minor)
    return isOld ? `${version} is too old: ${OLDEST.major}.${OLDEST.minor} is needed` : null
  }

  async mounts(): Promise<VmmSpec['mounts']> {
    const path = await this.path()
    const build = await this.build()
    if (this.#libraries?.build !== build) this.#libraries = { build, paths: await librariesOf(path) }
    return [
      ...[path, ...this.#libraries.paths, ...FIRMWARE].map((file) => ({
        source: file,
        target: file,
        access: 'read' as const,
      })),
      ...DEVICES.map((device) => ({ source: device, target: device, access: 'device' as const })),
    ]
  }
}

/** As the kernel of the host knows it; the first processor's, as they all count alike. */
export const counterKhz = async (): Promise<number> => {
  const mhz = /^cpu MHz\s*:\s*([\d.]+)/m.exec(await readFile('/proc/cpuinfo', 'utf8'))?.[1]
  if (mhz === undefined) throw new PyroError('driver.unavailable', 'the rate of this processor is not known')
  return Math.round(Number(mhz) * 1000)
}

/** The libraries and the loader of a program, as the loader finds them on this host. */
const librariesOf = async (program: string): Promise<string[]> => {
  const { stdout } = await runProgram('ldd', [program], { timeoutMs: LDD_TIMEOUT_MS })
  const paths = stdout.split('\n').map((line) => /(?:=> )?(\/\S+) \(0x[0-9a-f]+\)$/.exec(line.trim())?.[1])
  return [...new Set(paths.filter((path) => path !== undefined))]
}
