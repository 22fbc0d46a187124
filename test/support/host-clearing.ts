import { spawnSync } from 'node:child_process'
import { readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { lookAtHost, type HostPlaces, type HostSight } from './host-sight.ts'

const CLEAR_DEADLINE_MS = 60_000
const POLL_MS = 50

/**
 * Ends and takes away all that is on this host of these places, then their folders, by which it would be found again. Others may be at
 * it too. What is left in spite of it is returned, a line each.
 */
export const clearHost = async (places: HostPlaces): Promise<readonly string[]> => {
  const deadline = Date.now() + CLEAR_DEADLINE_MS
  let sight = await lookAtHost(places)
  clearOnce(sight)
  // Whoever ends may have started another, and what was used stays for a moment.
  while (isLeft(sight)) {
    if (Date.now() > deadline) return sight.lines
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
    sight = await lookAtHost(places)
    clearOnce(sight)
  }
  for (const folder of places.folders) rmSync(folder, { recursive: true, force: true })
  return []
}

/** A detached loop device goes with the last mount namespace that has it, which may be of somebody else. */
const isLeft = ({ processes, mounts, cgroups }: HostSight): boolean =>
  processes.length > 0 || mounts.length > 0 || cgroups.length > 0

/** The next look shows what came of it. */
const clearOnce = ({ processes, mounts, loops, cgroups }: HostSight): void => {
  for (const cgroup of cgroups) thaw(cgroup)
  for (const { pid } of processes) kill(pid)
  for (const pid of cgroups.flatMap(membersOf)) kill(pid)
  for (const mount of mounts.toReversed()) spawnSync('umount', ['--lazy', mount])
  for (const device of loops) spawnSync('losetup', ['--detach', device])
  for (const cgroup of cgroups.toReversed()) except(['EBUSY', 'ENOENT'], () => rmdirSync(cgroup))
}

/** It may have ended by itself meanwhile. */
export const kill = (pid: number): void => {
  except(['ESRCH'], () => process.kill(pid, 'SIGKILL'))
}

/** Who is frozen does not die; in the groups of v2 it does. */
const thaw = (cgroup: string): void => {
  except(['EACCES', 'ENOENT', 'ENODEV'], () => writeFileSync(join(cgroup, 'freezer.state'), 'THAWED', { flag: 'r+' }))
}

/** 0 stands for those whom this pid namespace does not see. */
const membersOf = (cgroup: string): number[] =>
  (except(['ENOENT', 'ENODEV'], () => readFileSync(join(cgroup, 'cgroup.procs'), 'utf8')) ?? '')
    .split('\n')
    .map(Number)
    .filter((pid) => pid > 0)

const except = <T>(errnos: readonly string[], attempt: () => T): T | undefined => {
  try {
    return attempt()
  } catch (error) {
    if (!errnos.includes(String((error as NodeJS.ErrnoException).code))) throw error
    return undefined
  }
}
