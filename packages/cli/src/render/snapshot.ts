import type { SnapshotRecord } from '@pyro/protocol'
import { formatAge, formatBytes } from './format.ts'
import { fields, table } from './table.ts'

const owned = ({ ownedBytes }: SnapshotRecord): string => (ownedBytes === null ? '-' : formatBytes(ownedBytes))

export const snapshotTable = (snapshots: readonly SnapshotRecord[]): string =>
  table(
    ['NAME', 'KIND', 'OWNS', 'CURRENT', 'CREATED'],
    snapshots.map((snapshot) => [
      snapshot.name,
      snapshot.kind,
      owned(snapshot),
      snapshot.current ? 'yes' : '',
      formatAge(snapshot.createdAt),
    ]),
  )

export const snapshotDetails = (snapshot: SnapshotRecord): string =>
  fields([
    ['name', snapshot.name],
    ['kind', snapshot.kind],
    ['created', formatAge(snapshot.createdAt)],
    ['owns', snapshot.ownedBytes === null ? null : formatBytes(snapshot.ownedBytes)],
    ['current', snapshot.current ? 'the present disk was cloned from it' : 'no'],
  ])
