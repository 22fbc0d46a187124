import type { Database, Row } from './database.ts'

export interface SnapshotRow {
  readonly workspaceId: string
  readonly name: string
  readonly kind: 'baseline' | 'named'
  readonly volume: string
  /** Milliseconds since 1970. */
  readonly createdAt: number
}

export class SnapshotTable {
  readonly #db: Database

  constructor(db: Database) {
    this.#db = db
  }

  all(): SnapshotRow[] {
    return this.#db.all('SELECT * FROM snapshots').map(fromRow)
  }

  /** Baseline first, then oldest first. */
  of(workspaceId: string): SnapshotRow[] {
    return this.#db
      .all(
        `SELECT * FROM snapshots WHERE workspace_id = ?
         ORDER BY CASE kind WHEN 'baseline' THEN 0 ELSE 1 END, created_at, name`,
        workspaceId,
      )
      .map(fromRow)
  }

  /** Replaces one of the same name. */
  put(row: SnapshotRow): void {
    this.#db.run(
      'INSERT OR REPLACE INTO snapshots (workspace_id, name, kind, volume, created_at) VALUES (?, ?, ?, ?, ?)',
      row.workspaceId,
      row.name,
      row.kind,
      row.volume,
      row.createdAt,
    )
  }

  delete(workspaceId: string, name: string): void {
    this.#db.run('DELETE FROM snapshots WHERE workspace_id = ? AND name = ?', workspaceId, name)
  }
}

const fromRow = (row: Row): SnapshotRow => ({
  workspaceId: String(row['workspace_id']),
  name: String(row['name']),
  kind: String(row['kind']) as SnapshotRow['kind'],
  volume: String(row['volume']),
  createdAt: Number(row['created_at']),
})
