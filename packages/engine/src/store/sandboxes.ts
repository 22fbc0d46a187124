import type { Database, Row } from './database.ts'

/**
 * One sandbox that exists, may exist, or must still be released. `starting` is written before anything is made, `releasing` when
 * nobody needs it any more; the row goes when a driver said that nothing is left.
 */
export interface SandboxRow {
  /** `<workspace>-g<generation>` */
  readonly id: string
  readonly workspaceId: string
  readonly generation: number
  readonly state: 'starting' | 'running' | 'releasing'
  /** The driver's record, JSON. */
  readonly record: unknown
}

export class SandboxTable {
  readonly #db: Database

  constructor(db: Database) {
    this.#db = db
  }

  all(): SandboxRow[] {
    return this.#db.all('SELECT * FROM sandboxes').map(fromRow)
  }

  of(workspaceId: string): SandboxRow[] {
    return this.#db.all('SELECT * FROM sandboxes WHERE workspace_id = ?', workspaceId).map(fromRow)
  }

  get(id: string): SandboxRow | null {
    const row = this.#db.get('SELECT * FROM sandboxes WHERE id = ?', id)
    return row === undefined ? null : fromRow(row)
  }

  put(row: SandboxRow): void {
    this.#db.run(
      'INSERT OR REPLACE INTO sandboxes (id, workspace_id, generation, state, record) VALUES (?, ?, ?, ?, ?)',
      row.id,
      row.workspaceId,
      row.generation,
      row.state,
      JSON.stringify(row.record),
    )
  }

  delete(id: string): void {
    this.#db.run('DELETE FROM sandboxes WHERE id = ?', id)
  }
}

const fromRow = (row: Row): SandboxRow => ({
  id: String(row['id']),
  workspaceId: String(row['workspace_id']),
  generation: Number(row['generation']),
  state: String(row['state']) as SandboxRow['state'],
  record: JSON.parse(String(row['record'])) as unknown,
})
