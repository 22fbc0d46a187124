import { access, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { readMounts, type MountLine } from './mountinfo.ts'

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

/** Null when the host has no usable memory, pids and cpu controllers. */
export async function detectCgroups(): Promise<CgroupHost | null> {
  const mounts = await readMounts()
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

const hierarchies = (mounts: readonly MountLine[]): string[] => [
  ...new Set(mounts.filter(({ type }) => type.startsWith('cgroup')).map(({ point }) => point)),
]
