import { execFileSync } from 'node:child_process'
import { rmdirSync } from 'node:fs'
import type { Workspace } from '@pyro/sdk'
import { until, type World } from '../support/world.ts'

export interface SandboxSight {
  readonly monitor: number
  /** Init and all others; on gVisor its sentry and gofer. */
  readonly inside: readonly number[]
}

/** The processes of a workspace's present sandbox as this host sees them. */
export const sandboxOf = async (world: World, workspaceId: string): Promise<SandboxSight> => {
  const { phase, generation } = (await world.pyro.workspaces.get(workspaceId)).info
  const { processes } = await world.sight()
  const own = processes.filter(({ what }) => what.includes(`${workspaceId}-g${generation}`))
  const monitor = own.find(({ what }) => what.includes(' monitor '))
  const inside = own.filter(({ pid }) => pid !== monitor?.pid).map(({ pid }) => pid)
  if (monitor === undefined || inside.length === 0) throw new Error(`no sandbox of ${workspaceId} (${phase}) is seen`)
  return { monitor: monitor.pid, inside }
}

export const signalAll = (pids: readonly number[], signal: NodeJS.Signals): void => {
  for (const pid of pids) {
    try {
      process.kill(pid, signal)
    } catch (error) {
      // The death of one may have ended others before their turn.
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
    }
  }
}

/** The power of a workspace's sandbox goes: nothing inside has time for anything. */
export const cutOff = async (world: World, ws: Workspace): Promise<void> => {
  signalAll((await sandboxOf(world, ws.id)).inside, 'SIGKILL')
  await until(async () => (await ws.status()).phase === 'stopped', 'the workspace to be stopped')
}

/** Nothing of this home runs or is mounted any more. */
export const powerOff = async (world: World): Promise<void> => {
  await world.killEngine()
  const nobody = async (): Promise<boolean> => {
    const { processes } = await world.sight()
    signalAll(
      processes.map(({ pid }) => pid),
      'SIGKILL',
    )
    return processes.length === 0
  }
  await until(nobody, 'every process to end')
  const { mounts, cgroups } = await world.sight()
  // A machine that was killed lets go of its disk when its last write has ended.
  for (const mount of mounts.toReversed()) await until(() => Promise.resolve(unmounts(mount)), `${mount} to be free`)
  for (const cgroup of cgroups.toReversed()) rmdirSync(cgroup)
}

const unmounts = (mount: string): boolean => {
  try {
    execFileSync('umount', [mount], { stdio: 'pipe' })
    return true
  } catch (error) {
    if (!String((error as { stderr: Buffer }).stderr).includes('busy')) throw error
    return false
  }
}

/** Milliseconds that a call takes. */
export const timed = async (call: () => Promise<unknown>): Promise<number> => {
  const begun = performance.now()
  await call()
  return performance.now() - begun
}

/** Every look at a workspace is answered within this time, whatever its sandbox does. */
export const LOOK_MS = 1_000
