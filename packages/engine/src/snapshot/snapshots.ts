import { BASELINE, CURRENT, PyroError } from '@pyro/protocol'
import { nearest } from '../lib/nearest.ts'
import type { SnapshotRow } from '../store/snapshots.ts'

/** What a workspace calls itself in messages. */
export interface SnapshotOwner {
  readonly name: string
  readonly snapshots: readonly SnapshotRow[]
}

/** Reserved names cannot be given. */
export const refuseReserved = (name: string): void => {
  if (name !== BASELINE && name !== CURRENT) return
  throw new PyroError('snapshot.reserved', `"${name}" is a reserved name; nothing was changed`, {
    hint: 'take another name',
    data: { name },
  })
}

/** Checks that a snapshot of this name can be made; the one that it replaces, if any. */
export const admitSnapshot = (
  owner: SnapshotOwner,
  request: { readonly name: string; readonly replace: boolean },
  limit: number,
): SnapshotRow | null => {
  refuseReserved(request.name)
  const existing = owner.snapshots.find(({ name }) => name === request.name) ?? null
  if (existing !== null && !request.replace) {
    throw new PyroError(
      'snapshot.exists',
      `"${owner.name}" has a snapshot "${request.name}" already; nothing was changed`,
      {
        hint: 'use --replace, or another name',
        data: { name: request.name },
      },
    )
  }
  const named = owner.snapshots.filter(({ kind }) => kind === 'named').length
  if (existing === null && named >= limit) {
    throw new PyroError(
      'limit.exceeded',
      `"${owner.name}" has ${named} snapshots, at most ${limit}; nothing was changed`,
      {
        hint: `pyro workspace snapshot delete ${owner.name} NAME`,
        data: { limit: 'snapshotsPerWorkspace', max: limit },
      },
    )
  }
  return existing
}

export const findSnapshot = (owner: SnapshotOwner, wanted: string): SnapshotRow => {
  const found = owner.snapshots.find(({ name }) => name === wanted)
  if (found !== undefined) return found
  const names = owner.snapshots.map(({ name }) => name)
  const similar = nearest(wanted, names)
  throw new PyroError('snapshot.not-found', `"${owner.name}" has no snapshot "${wanted}"; nothing was changed`, {
    hint: similar === null ? `it has ${names.join(', ')}` : `did you mean ${similar}? it has ${names.join(', ')}`,
    data: { name: wanted },
  })
}
