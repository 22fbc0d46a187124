import { join } from 'node:path'
import { PyroError } from '@pyro/protocol'
import type { Driver, DriverObject } from '../../driver/driver.ts'
import { readMounts } from '../../process/mountinfo.ts'
import type { Engine } from '../engine.ts'
import { NOBODY, workspaceIdIn, type Thing } from './thing.ts'

/** What the drivers see of sandboxes. Drivers of one kind see the same things: each thing once, with all that see it. */
export const sandboxThings = async (engine: Engine): Promise<Thing[]> => {
  const drivers = engine.services.drivers.all
  const seen = await Promise.all(drivers.map(async (driver) => ({ driver, objects: await driver.audit() })))
  const found = new Map<string, { readonly object: DriverObject; readonly drivers: Driver[] }>()
  for (const { driver, objects } of seen) {
    for (const object of objects) {
      const key = `${object.kind} ${object.id}`
      const known = found.get(key)
      if (known === undefined) found.set(key, { object, drivers: [driver] })
      else known.drivers.push(driver)
    }
  }
  const reclaimed = new Map<string, Promise<void>>()
  return [...found.values()].map(({ object, drivers: seers }) => {
    const { kind, id, sandboxId, detail } = object
    const leak = { kind, id, workspaceId: workspaceIdIn(sandboxId), detail }
    if (kind === 'mount') {
      const claim = sandboxId === null ? NOBODY : { of: 'sandbox' as const, id: sandboxId }
      return { leak, claim, release: (disk) => disk.unmount(id, { lazy: true }) }
    }
    if (sandboxId === null) return { leak, claim: NOBODY, release: null }
    const release = (): Promise<void> => {
      const begun = reclaimed.get(sandboxId) ?? reclaim(engine, seers, sandboxId)
      reclaimed.set(sandboxId, begun)
      return begun
    }
    return { leak, claim: { of: 'sandbox', id: sandboxId }, release }
  })
}

/** Everything of a sandbox goes at once, in the order that its driver knows. */
const reclaim = async (engine: Engine, drivers: readonly Driver[], sandboxId: string): Promise<void> => {
  await refuseMounted(join(engine.services.config.runtimeDir, 'sandboxes', sandboxId))
  for (const driver of drivers) await driver.reclaim({ driver: driver.id, spec: { sandboxId }, details: {} })
}

/** Removing the folder would remove what is mounted there. */
const refuseMounted = async (folder: string): Promise<void> => {
  const mount = (await readMounts()).find(({ point }) => point === folder || point.startsWith(join(folder, '/')))
  if (mount !== undefined) throw new PyroError('internal', `${mount.point} is still mounted`)
}
