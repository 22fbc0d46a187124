import { readFile } from 'node:fs/promises'
import { errnoOf } from '../../process/identity.ts'
import type { SandboxIds } from '../monitored/id-ranges.ts'

/**
 * Objects of the kernel that are counted for whoever made a user namespace. Where that is root of the host, they would be shared by
 * it and all sandboxes. Each namespace may lower its part in /proc/sys/user; a sandbox gets this share of what the host has,
 * within these bounds.
 */
const SHARED = [
  { name: 'max_inotify_instances', part: 8, least: 8, most: 1024 },
  { name: 'max_inotify_watches', part: 8, least: 1024, most: 524_288 },
  { name: 'max_fanotify_groups', part: 8, least: 8, most: 128 },
  { name: 'max_fanotify_marks', part: 8, least: 1024, most: 65_536 },
] as const

/** Root inside has no right to make any of them, and its user namespace is the last. */
const NAMESPACES = ['user', 'mnt', 'pid', 'net', 'ipc', 'uts', 'cgroup', 'time'] as const

const FOLDER = '/proc/sys/user'

const MIB = 1024 * 1024
const PAGE_BYTES = 4096
/** System V shared memory outlives its processes, as files on a tmpfs do: see the sizes of those. */
const SEGMENTS_PART = 8

/** A hook that the runtime runs in the new namespaces, before it gives up its rights there. */
export async function kernelCapsHook(memoryMib: number, ids: SandboxIds): Promise<object> {
  const segmentPages = Math.floor((memoryMib * MIB) / SEGMENTS_PART / PAGE_BYTES)
  // Before Linux 5.19 only root of the host may set it.
  const writes = [`{ echo ${segmentPages} >/proc/sys/kernel/shmall; } 2>/dev/null || :`]
  for (const { name, part, least, most } of ids.diskBase === null ? SHARED : []) {
    const host = await hostLimit(name)
    if (host !== null) writes.push(`echo ${Math.min(most, Math.max(least, Math.floor(host / part)))} >${name}`)
  }
  for (const name of NAMESPACES) {
    if ((await hostLimit(`max_${name}_namespaces`)) !== null) writes.push(`echo 0 >max_${name}_namespaces`)
  }
  return { path: '/bin/sh', args: ['sh', '-ec', `cd ${FOLDER}\n${writes.join('\n')}`], timeout: 5 }
}

/** Null where this kernel does not count it. */
async function hostLimit(name: string): Promise<number | null> {
  try {
    return Number(await readFile(`${FOLDER}/${name}`, 'utf8'))
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null
    throw error
  }
}
