import { strayLoops, strayMounts, volumeEntries, type VolumeEntry } from '../../disk/disk-audit.ts'
import { volumeId, type DiskStore } from '../../disk/disk-store.ts'
import type { Engine } from '../engine.ts'
import { predatesState } from './state-age.ts'
import { NOBODY, workspaceIdIn, type Claim, type Thing } from './thing.ts'

export const loopThings = async ({ services }: Engine): Promise<Thing[]> =>
  (await strayLoops(services.config)).map((loop) => ({
    leak: {
      kind: 'loop-device',
      id: loop.device,
      workspaceId: null,
      detail: `stands on ${loop.file}${loop.deleted ? ', which is deleted' : ''}`,
    },
    claim: NOBODY,
    release: (disk) => disk.detach(loop),
  }))

export const mountThings = async ({ services }: Engine): Promise<Thing[]> =>
  (await strayMounts(services.config)).map(({ point, type, certain }) => ({
    leak: { kind: 'mount', id: point, workspaceId: null, detail: type },
    claim: NOBODY,
    release: certain ? (disk) => disk.unmount(point, { lazy: false }) : null,
  }))

export const volumeThings = async ({ services }: Engine): Promise<Thing[]> => {
  const { home, runtimeDir } = services.config
  const stores = storesOf(services)
  const entries = await volumeEntries(runtimeDir)
  const listed = new Set(entries.map(({ name }) => name))
  // A copy whose tree is gone is known by its marker alone.
  for (const store of stores) {
    for (const { id, path } of await store.list())
      if (!listed.has(id)) entries.push({ name: id, path, volume: id, kind: 'volume' })
  }
  return Promise.all(
    entries.map(async (entry): Promise<Thing> => {
      const { name, path, volume, kind } = entry
      const isKept = kind === 'unknown' || (isDisk(volume) && (await predatesState(home, path)))
      return {
        leak: {
          kind: 'volume',
          id: name,
          workspaceId: workspaceIdIn(volume),
          detail: isKept && kind !== 'unknown' ? `${DETAILS[kind]}, older than the state of this home` : DETAILS[kind],
        },
        claim: claimOf(entry),
        release: isKept ? null : (disk) => (kind === 'volume' ? removeVolume(stores, name) : disk.removeTree(path)),
      }
    }),
  )
}

const DETAILS: Readonly<Record<VolumeEntry['kind'], string>> = {
  volume: 'no workspace, snapshot or environment has it',
  unfinished: 'half-made',
  flush: 'left by a flush',
  unknown: 'not a name of a volume',
}

export const storesOf = ({ drivers }: Engine['services']): DiskStore[] => [
  ...new Set(drivers.all.map(({ disks }) => disks)),
]

const claimOf = ({ volume, kind }: VolumeEntry): Claim => {
  if (volume !== null) return { of: 'volume', id: volume }
  return kind === 'flush' ? { of: 'flush' } : NOBODY
}

/** What a user may have written; environments can be made again. */
const isDisk = (volume: string | null): boolean => workspaceIdIn(volume) !== null

const removeVolume = async (stores: readonly DiskStore[], name: string): Promise<void> => {
  for (const store of stores) await store.remove(volumeId(name))
}
