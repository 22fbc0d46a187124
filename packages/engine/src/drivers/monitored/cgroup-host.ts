import { access, readFile } from 'node:fs/promises'
import { join } from 'node:path'

/** How this host arranges control groups. Hybrid hosts (v1 controllers beside an empty v2 mount) count as v1. */
export type CgroupHost =
  | {
      readonly mode: 'v1'
      /** Mount point by controller, of those that we set limits or counters in. */
      readonly controllers: ReadonlyMap<Controller, string>
      /** Every hierarchy, an empty v2 one too: runtimes make folders in all of them. */
      readonly hierarchies: readonly string[]
    }
  | { readonly mode: 'v2'; readonly mount: string }

export const CONTROLLERS = ['memory', 'pids', 'cpu', 'freezer'] as const
export type Controller = (typeof CONTROLLERS)[number]

/** Without these there are no limits worth the name. */
const NEEDED = ['memory', 'pids', 'cpu'] as const

interface Mount {
  readonly point: string
  readonly type: string
  readonly superOptions: readonly string[]
}

/** Null when the host has no usable memory, pids and cpu controllers. */
export async function detectCgroups(): Promise<CgroupHost | null> {
  const mounts = parseMountinfo(await readFile('/proc/self/mountinfo', 'utf8'))
  const v1 = mounts.filter(({ type }) => type === 'cgroup')
  const controllers = new Map<Controller, string>()
  for (const controller of CONTROLLERS) {
    const mount = v1.find(({ superOptions }) => superOptions.includes(controller))
    if (mount !== undefined) controllers.set(controller, mount.point)
  }
  if (NEEDED.every((controller) => controllers.has(controller)))
    return { mode: 'v1', controllers, hierarchies: hierarchies(mounts) }
  const unified = mounts.find(({ type }) => type === 'cgroup2')
  if (unified === undefined) return null
  const available = (await readFile(join(unified.point, 'cgroup.controllers'), 'utf8')).trim().split(' ')
  if (!NEEDED.every((controller) => available.includes(controller))) return null
  await access(join(unified.point, 'cgroup.subtree_control'))
  return { mode: 'v2', mount: unified.point }
}

const hierarchies = (mounts: readonly Mount[]): string[] => [
  ...new Set(mounts.filter(({ type }) => type.startsWith('cgroup')).map(({ point }) => point)),
]

/** Lines of /proc/self/mountinfo: `id parent dev root point options [tags…] - type source superOptions`. */
export function parseMountinfo(text: string): Mount[] {
  return text.split('\n').flatMap((line): Mount[] => {
    const [before = '', after] = line.split(' - ')
    const point = before.split(' ')[4]
    const [type, , superOptions] = (after ?? '').split(' ')
    if (point === undefined || type === undefined || superOptions === undefined) return []
    return [{ point: unescape(point), type, superOptions: superOptions.split(',') }]
  })
}

/** The kernel writes blanks and backslashes of paths as `\040` and the like. */
const unescape = (text: string): string =>
  text.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))
