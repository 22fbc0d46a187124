import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { createHash } from 'node:crypto'
import { basename, join } from 'node:path'

export interface HostSight {
  readonly processes: readonly { readonly pid: number; readonly what: string }[]
  /** In the order they were mounted. */
  readonly mounts: readonly string[]
  /** Parents first. */
  readonly cgroups: readonly string[]
  /** Everything found, a line each, for messages. */
  readonly lines: readonly string[]
}

const CGROUP_ROOT = '/sys/fs/cgroup'
const CGROUP_DEPTH = 5

/**
 * What of a home is on this host: processes, mounts, loop devices, control groups, sockets. Looks at /proc and /sys alone, never at
 * what Pyro says of itself.
 */
export const lookAtHost = async ({ home, runtimeDir }: { home: string; runtimeDir: string }): Promise<HostSight> => {
  const places = [home, runtimeDir]
  const hash = createHash('sha256').update(home).digest('hex').slice(0, 12)
  const processes = processesOf(places)
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => unescape(line.split(' ')[4] ?? ''))
    .filter((point) => places.some((place) => point === place || point.startsWith(`${place}/`)))
  const loops = loopFiles().filter(({ file }) => file.startsWith(home))
  const cgroups = cgroupsNamed(CGROUP_ROOT, hash, CGROUP_DEPTH)
  const sockets = readFileSync('/proc/net/unix', 'utf8')
    .split('\n')
    .flatMap((line) => line.split(/\s+/).slice(7))
    .filter((path) => places.some((place) => path.startsWith(`${place}/`)))
  return {
    processes,
    mounts,
    cgroups,
    lines: [
      ...processes.map(({ pid, what }) => `process ${pid}: ${what}`),
      ...mounts.map((point) => `mount ${point}`),
      ...loops.map(({ device, file }) => `loop ${device}: ${file}${mounts.length > 0 ? '' : holdersOf(device)}`),
      ...cgroups.map((path) => `cgroup ${path}`),
      ...sockets.map((path) => `socket ${path}`),
    ],
  }
}

/** By arguments, environment or the agent that is mounted inside: whatever runs for this home knows its folders. */
const processesOf = (places: readonly string[]): { pid: number; what: string }[] =>
  readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name) || Number(name) === process.pid || Number(name) === process.ppid) return []
    const argv = readText(`/proc/${name}/cmdline`).replaceAll('\0', ' ').trim()
    const environment = readText(`/proc/${name}/environ`)
    const isOurs =
      places.some((place) => argv.includes(`${place}/`)) ||
      (/^(pyro-engine|pyro-agent|runc|runsc)/.test(argv) && places.some((place) => environment.includes(place)))
    if (isOurs) return [{ pid: Number(name), what: argv }]
    const sandbox = sandboxAround(name, places)
    return sandbox === null ? [] : [{ pid: Number(name), what: `${argv} (inside ${sandbox})` }]
  })

/** The channel folder of a sandbox is mounted at one place inside; its source says which home and sandbox it is. */
const sandboxAround = (pid: string, places: readonly string[]): string | null => {
  for (const line of readText(`/proc/${pid}/mountinfo`).split('\n')) {
    const [, , , root = '', point] = line.split(' ')
    // A machine shows it to its VMM.
    if (point !== '/run/pyro/channel' && point !== '/pyro/channel') continue
    const isOurs = places.some((place) => root.includes(`/${basename(place)}/`))
    const sandbox = /\/sandboxes\/([^/]+)\/channel$/.exec(root)?.[1]
    if (isOurs && sandbox !== undefined) return sandbox
  }
  return null
}

const loopFiles = (): { device: string; file: string }[] =>
  readdirSync('/sys/block').flatMap((device) => {
    const file = readText(`/sys/block/${device}/loop/backing_file`).trim()
    return device.startsWith('loop') && file !== '' ? [{ device, file }] : []
  })

/** Who keeps a loop device that this mount namespace no longer has: programs with a namespace of their own copy all mounts. */
const holdersOf = (device: string): string => {
  const own = readlinkSync('/proc/self/ns/mnt')
  const holders = readdirSync('/proc').filter(
    (name) =>
      /^\d+$/.test(name) &&
      ![own, ''].includes(namespaceOf(name)) &&
      readText(`/proc/${name}/mountinfo`).includes(`/dev/${device} `),
  )
  const shown = holders.map((pid) => `${pid} ${readText(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').slice(0, 60)}`)
  return ` (mounted elsewhere by: ${shown.join('; ') || 'nobody'})`
}

/** Empty for a process that is gone, or that is not ours to look at. */
const namespaceOf = (pid: string): string => {
  try {
    return readlinkSync(`/proc/${pid}/ns/mnt`)
  } catch (error) {
    if (!['ENOENT', 'EACCES'].includes(String((error as NodeJS.ErrnoException).code))) throw error
    return ''
  }
}

/** The control group of this name, wherever it is, and all below it. */
const cgroupsNamed = (folder: string, name: string, depth: number): string[] => {
  if (depth === 0) return []
  return subgroups(folder).flatMap((path) =>
    basename(path) === name ? [path, ...allBelow(path)] : cgroupsNamed(path, name, depth - 1),
  )
}

const allBelow = (path: string): string[] => subgroups(path).flatMap((below) => [below, ...allBelow(below)])

/** Nothing for a group that is gone meanwhile. */
const subgroups = (path: string): string[] => {
  try {
    const entries = readdirSync(path, { withFileTypes: true })
    return entries.flatMap((entry) => (entry.isDirectory() ? [join(path, entry.name)] : []))
  } catch (error) {
    if (!['ENOENT', 'ENODEV'].includes(String((error as NodeJS.ErrnoException).code))) throw error
    return []
  }
}

const unescape = (text: string): string =>
  text.replaceAll(/\\(\d{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))

const readText = (path: string): string => {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    // Gone meanwhile, or not a loop device: nothing to see.
    return ''
  }
}
