import { LEAK_KINDS, type Leak } from '@pyro/protocol'
import { DiskReleaser } from '../../disk/disk-audit.ts'
import { errorFields } from '../../lib/log.ts'
import { sleep, withDeadline } from '../../lib/wait.ts'
import type { Engine } from '../engine.ts'
import { loopThings, mountThings, volumeThings } from './disk-things.ts'
import { logThings, runtimeThings, temporaryThings } from './folder-things.ts'
import { Owners } from './owners.ts'
import { processThings } from './process-things.ts'
import { recordThings } from './record-things.ts'
import { sandboxThings } from './sandbox-things.ts'
import { keyOf, type Thing } from './thing.ts'

/** Between looks: what is on its way out goes meanwhile. */
const PAUSES_MS = [200, 800]
const LOOK_DEADLINE_MS = 20_000

const LOOKS: Readonly<Record<string, (engine: Engine) => Promise<readonly Thing[]>>> = {
  sandboxes: sandboxThings,
  mounts: mountThings,
  'loop devices': loopThings,
  volumes: volumeThings,
  processes: processThings,
  'the runtime folder': runtimeThings,
  'temporary folders': temporaryThings,
  'command logs': logThings,
  records: recordThings,
}

/** Users before what they use: the innermost mounts, then processes with all of their sandbox, the disks last. */
const RELEASE_ORDER: readonly Leak['kind'][] = [
  'mount',
  'process',
  'cgroup',
  'socket',
  'folder',
  'record',
  'loop-device',
  'volume',
]

export interface Leaks {
  readonly things: readonly Thing[]
  /** What could not be looked at, and why. */
  readonly unseen: readonly string[]
}

/** Everything of this home that has no owner now and had none a moment ago. */
export const findLeaks = async (engine: Engine): Promise<Leaks> => {
  const first = await look(engine)
  const unseen = new Set(first.unseen)
  let { things } = first
  for (const pauseMs of PAUSES_MS) {
    if (things.length === 0) break
    await sleep(pauseMs)
    const suspected = new Set(things.map(keyOf))
    const again = await look(engine)
    things = again.things.filter((thing) => suspected.has(keyOf(thing)))
    for (const what of again.unseen) unseen.add(what)
  }
  return { things: things.toSorted(byKind), unseen: [...unseen] }
}

/** Releases what is certain. What that did not help is found again by the next look. */
export const releaseLeaks = async (engine: Engine, { things }: Leaks): Promise<void> => {
  await using disk = new DiskReleaser(engine.agentPath)
  for (const kind of RELEASE_ORDER) {
    for (const { leak, release } of things) {
      if (leak.kind !== kind || release === null) continue
      try {
        if (kind === 'volume') await refuseInUse(engine, leak)
        await release(disk)
      } catch (error) {
        engine.services.log.warn({ leak, ...errorFields(error) }, 'a leak was not released')
      }
    }
  }
}

const look = async (engine: Engine): Promise<Leaks> => {
  const before = await Owners.read(engine)
  const unseen: string[] = []
  const found = await Promise.all(
    Object.entries(LOOKS).map(async ([what, collect]) => {
      try {
        return await withDeadline(collect(engine), LOOK_DEADLINE_MS, () => new Error('took too long'))
      } catch (error) {
        engine.services.log.error({ what, ...errorFields(error) }, 'a look for leaks failed')
        unseen.push(`${what}: ${error instanceof Error ? error.message : String(error)}`)
        return []
      }
    }),
  )
  const after = await Owners.read(engine)
  const stray = found.flat().filter(({ claim }) => !before.owns(claim) && !after.owns(claim))
  // Two looks may see one thing: a mount in the folder of a sandbox.
  return { things: [...new Map(stray.toReversed().map((thing) => [keyOf(thing), thing])).values()], unseen }
}

/** Nothing but the absence of all that is left of its sandboxes proves that a disk may go. */
const refuseInUse = async (engine: Engine, { id, workspaceId }: Leak): Promise<void> => {
  if (workspaceId === null) return
  const things = await sandboxThings(engine)
  const owners = await Owners.read(engine)
  const left = things.filter(({ leak, claim }) => leak.workspaceId === workspaceId && !owners.owns(claim))
  if (left.length > 0) throw new Error(`${left.map(keyOf).join(', ')} may still use ${id}`)
}

const byKind = (a: Thing, b: Thing): number =>
  LEAK_KINDS.indexOf(a.leak.kind) - LEAK_KINDS.indexOf(b.leak.kind) || (a.leak.id < b.leak.id ? -1 : 1)
