import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { createHash } from 'node:crypto'
import { basename, join } from 'node:path'

/** By what the things of a home, or of several, are told from others. */
export interface HostPlaces {
  readonly folders: readonly string[]
  /** As control groups are named after homes. */
  readonly hashes: readonly string[]
}

export interface HostSight {
  readonly processes: readonly { readonly pid: number; readonly what: string }[]
  /** In the order they were mounted. */
  readonly mounts: readonly string[]
  /** Devices. */
  readonly loops: readonly string[]
  /** Parents first. */
  readonly cgroups: readonly string[]
  /** Everything found, a line each, for messages. */
  readonly lines: readonly string[]
}

const CGROUP_ROOT = '/sys/fs/cgroup'
const CGROUP_DEPTH = 5
const HASH_DIGITS = 12

/** As the folder of its volatile state and its control groups are named. */
export const hashOf = (home: string): string => createHash('sha256').update(home).digest('hex').slice(0, HASH_DIGITS)

/**
 * What of these places is on this host: processes, mounts, loop devices, control groups, sockets. Looks at /proc and /sys alone, never
 * at what Pyro says of itself.
 */
export const lookAtHost = async ({ folders, hashes }: HostPlaces): Promise<HostSight> => {
  const processes = processesOf(folders)
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => unescape(line.split(' ')[4] ?? ''))
    .filter((point) => folders.some((folder) => point === folder || point.startsWith(`${folder}/`)))
  const loops = loopFiles().filter(({ file }) => folders.some((folder) => file.startsWith(`${folder}/`)))
  const cgroups = cgroupsNamed(CGROUP_ROOT, hashes, CGROUP_DEPTH)
  const sockets = readFileSync('/proc/net/unix', 'utf8')
    .split('\n')
    .flatMap((line) => line.split(/\s+/).slice(7))
    .filter((path) => folders.some((folder) => path.startsWith(`${folder}/`)))
  return {
    processes,
    mounts,
    loops: loops.map(({ device }) => `/dev/${device}`),
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

/** By arguments, environment or the agent that is mounted inside: whatever runs for a home knows its folders. */
const processesOf = (places: readonly string[]): { pid: number; what: string }[] =>
  readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name) || Number(name) === process.pid || Number(name) === process.ppid) return []
    const argv = readText(`/proc/${name}/cmdline`).replaceAll('\0', ' ').trim()
    const environment = readText(`/proc/${name}/environ`)
    const isOurs =
      places.some((place) => argv.includes(`${place}/`) || `\0${environment}`.includes(`\0TMPDIR=${place}\0`)) ||
      (/^(\S*\/)?(pyro-engine|pyro-agent|runc|runsc)/.test(argv) && places.some((place) => environment.includes(place)))
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

/** The control groups of these names, wherever they are, and all below them. */
const cgroupsNamed = (folder: string, names: readonly string[], depth: number): string[] => {
  if (depth === 0) return []
  return subgroups(folder).flatMap((path) =>
    names.includes(basename(path)) ? [path, ...allBelow(path)] : cgroupsNamed(path, names, depth - 1),
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
