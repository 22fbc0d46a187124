import type { Leak } from '@pyro/protocol'
import type { SandboxRecord } from '../../driver/driver.ts'
import { sleep } from '../../lib/wait.ts'
import type { SandboxRow } from '../../store/sandboxes.ts'
import type { Engine } from '../engine.ts'
import { storesOf } from './disk-things.ts'
import { NOBODY, type Thing } from './thing.ts'

/** How long the release of a record waits for the workspace that it names. */
const TURN_WAIT_MS = 5_000

/** Rows that speak of what does not exist, or of what nobody works on any more. */
export const recordThings = async (engine: Engine): Promise<Thing[]> => {
  const snapshots = await snapshotThings(engine)
  // Before everything is taken over, nothing carries what a former engine left.
  if (!(await isSettled(engine.adopted))) return snapshots
  return [...snapshots, ...sandboxRowThings(engine), ...intentThings(engine)]
}

const isSettled = (promise: Promise<void>): Promise<boolean> =>
  Promise.race([promise.then(() => true), sleep(0).then(() => false)])

/** A snapshot that lost its volume is never dropped: whoever made it has to learn of it. */
const snapshotThings = async ({ services }: Engine): Promise<Thing[]> => {
  const { store } = services
  const before = store.snapshots.all()
  const volumes = new Set<string>()
  for (const disks of storesOf(services)) for (const { id } of await disks.list()) volumes.add(id)
  const kept = new Set(store.snapshots.all().map(({ volume }) => volume))
  return before
    .filter(({ volume }) => !volumes.has(volume) && kept.has(volume))
    .map(({ workspaceId, name, volume }) => ({
      leak: recordLeak(`snapshot ${workspaceId}/${name}`, workspaceId, `its volume ${volume} is gone`),
      claim: NOBODY,
      release: null,
    }))
}

const sandboxRowThings = (engine: Engine): Thing[] =>
  engine.services.store.sandboxes
    .all()
    .filter((row) => isForsaken(engine, row))
    .map((row) => {
      const workspace = engine.workspaces.find(row.workspaceId)
      const why = workspace === null ? 'of no workspace' : 'does not carry its workspace'
      return {
        leak: recordLeak(`sandbox ${row.id}`, row.workspaceId, `${row.state}, ${why}`),
        claim: NOBODY,
        // A failed workspace may need what is left of its sandbox; reset, start and delete release it.
        release: workspace?.row.phase === 'failed' ? null : () => releaseRow(engine, row),
      }
    })

/** Nobody starts, carries or releases it. */
const isForsaken = (engine: Engine, row: SandboxRow): boolean => {
  const { store } = engine.services
  if (store.intents.all().some(({ subject }) => subject === row.workspaceId)) return false
  if (store.releases.all().some(({ thing }) => thing.kind === 'sandbox' && thing.sandbox === row.id)) return false
  const workspace = engine.workspaces.find(row.workspaceId)
  if (workspace === null) return true
  return workspace.actor.idle && workspace.sandbox?.record.spec.sandboxId !== row.id
}

const releaseRow = async (engine: Engine, row: SandboxRow): Promise<void> => {
  const { store, drivers } = engine.services
  const record = row.record as SandboxRecord
  const release = async (): Promise<void> => {
    await drivers.get(record.driver).reclaim(record)
    store.sandboxes.delete(row.id)
  }
  const workspace = engine.workspaces.find(row.workspaceId)
  if (workspace === null) return release()
  await workspace.actor.turn({ what: 'doctor', waitMs: TURN_WAIT_MS }, async () => {
    if (workspace.sandbox?.record.spec.sandboxId !== row.id && store.sandboxes.get(row.id) !== null) await release()
  })
}

/** What recovery could not undo or finish; the next engine tries again. */
const intentThings = ({ services, workspaces }: Engine): Thing[] =>
  services.store.intents
    .all()
    .filter(({ subject }) => workspaces.find(subject)?.actor.idle ?? true)
    .map(({ id, operation, subject }) => ({
      leak: recordLeak(`intent ${id}`, subject, `${operation} was begun and neither finished nor taken back`),
      claim: NOBODY,
      release: null,
    }))

const recordLeak = (id: string, workspaceId: string, detail: string): Leak => ({
  kind: 'record',
  id,
  workspaceId,
  detail,
})
