import type { Database, Row } from './database.ts'

/** An installed environment. `data` belongs to environment/, which checks it. */
export interface EnvironmentRow {
  readonly name: string
  readonly digest: string
  readonly data: unknown
}

export class EnvironmentTable {
  readonly #db: Database

  constructor(db: Database) {
    this.#db = db
  }

  all(): EnvironmentRow[] {
    return this.#db.all('SELECT * FROM environments ORDER BY name').map(fromRow)
  }

  get(name: string): EnvironmentRow | null {
    const row = this.#db.get('SELECT * FROM environments WHERE name = ?', name)
    return row === undefined ? null : fromRow(row)
  }

  /** Replaces one of the same name. */
  put(row: EnvironmentRow): void {
    this.#db.run(
      'INSERT OR REPLACE INTO environments (name, digest, data) VALUES (?, ?, ?)',
      row.name,
      row.digest,
      JSON.stringify(row.data),
    )
  }

  delete(name: string): void {
    this.#db.run('DELETE FROM environments WHERE name = ?', name)
  }
}

const fromRow = (row: Row): EnvironmentRow => ({
  name: String(row['name']),
  digest: String(row['digest']),
  data: JSON.parse(String(row['data'])) as unknown,
})
