import { stat, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import type { DiskStore } from '../../disk/disk-store.ts'
import { errnoOf } from '../../process/identity.ts'
import type { Engine } from '../engine.ts'
import { reasonOf, remedyOf, whyUnwritable } from '../host-failure.ts'
import type { Check, Verdict } from './capabilities.ts'
import { storesOf } from './disk-things.ts'

const MIB = 1024 * 1024
const GIB = 1024 * MIB
/** Less does not hold an environment and what a workspace writes. */
const ENOUGH_BYTES = GIB

export const diskChecks = (engine: Engine): readonly Check[] => {
  const stores = storesOf(engine.services)
  const home: Check = { id: 'home', required: true, run: () => checkHome(engine) }
  const ofStores = stores.flatMap((store, index) => {
    const suffix = index === 0 ? '' : `-${index + 1}`
    return [
      { id: `disk-store${suffix}`, required: true, run: () => checkStore(store) },
      { id: `disk-speed${suffix}`, required: false, run: () => checkSpeed(store) },
      { id: `disk-limits${suffix}`, required: false, run: () => checkLimits(store) },
      { id: `disk-space${suffix}`, required: false, run: () => checkSpace(engine, store) },
    ]
  })
  return [home, ...ofStores]
}

/** It is the one that was opened, and takes changes. */
const checkHome = (engine: Engine): Promise<Verdict> => {
  const loss = engine.home.loss()
  if (loss !== null) return Promise.resolve({ ok: false, detail: loss.message, fix: loss.hint })
  const { home } = engine.services.config
  const errno = whyUnwritable(home)
  if (errno === null) return Promise.resolve({ ok: true, detail: home, fix: null })
  return Promise.resolve({ ok: false, detail: `${home} cannot be written: ${reasonOf(errno)}`, fix: remedyOf(errno) })
}

/** It answers. */
const checkStore = async (store: DiskStore): Promise<Verdict> => {
  const volumes = await store.list()
  return { ok: true, detail: `${store.detail}; ${volumes.length} volumes`, fix: null }
}

const checkSpeed = (store: DiskStore): Promise<Verdict> => {
  if (store.kind === 'btrfs')
    return Promise.resolve({
      ok: true,
      detail: 'create, snapshot and reset share blocks, whatever the size',
      fix: null,
    })
  const why = store.fallback?.message ?? 'PYRO_DISK, or how this home began, says so'
  const detail = `create, snapshot and reset copy whole trees: ${why}`
  return Promise.resolve({ ok: false, detail, fix: store.fallback?.hint ?? null })
}

const checkLimits = (store: DiskStore): Promise<Verdict> => {
  if (store.enforcesLimit) return Promise.resolve({ ok: true, detail: '--disk-mib is a wall for guests', fix: null })
  return Promise.resolve({
    ok: false,
    detail: `--disk-mib is not enforced on this store (needs a pool of our own and Linux 6.7)`,
    fix: store.fallback?.hint ?? null,
  })
}

/** What workspaces can still write: what is free in the store, and what a pool may take of the host beyond its reserve. */
const checkSpace = async ({ services }: Engine, store: DiskStore): Promise<Verdict> => {
  const { home, hostReserveBytes } = services.config
  const [{ freeBytes, totalBytes }, host, hasPool] = await Promise.all([
    store.space(),
    statfs(home),
    exists(join(home, 'pool.btrfs')),
  ])
  const hostFree = host.bavail * host.bsize
  const growth = hasPool ? Math.max(0, hostFree - hostReserveBytes) : 0
  const inStore = `${gib(freeBytes)} of ${gib(totalBytes)} free`
  const detail = hasPool
    ? `pool: ${inStore}; host: ${gib(hostFree)} free, ${gib(hostReserveBytes)} of it kept as a reserve`
    : inStore
  const ok = freeBytes + growth >= ENOUGH_BYTES
  return { ok, detail, fix: ok ? null : 'pyro env prune' }
}

const gib = (bytes: number): string => `${(bytes / GIB).toFixed(1)} GiB`

const exists = async (path: string): Promise<boolean> => {
  try {
    await stat(path)
    return true
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false
    throw error
  }
}
