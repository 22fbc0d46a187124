import type { ErrorBody } from '@pyro/protocol'
import type { Database } from './database.ts'

/** How long the answer to a request id is kept. */
const KEPT_MS = 60 * 60 * 1000

export type Outcome = { readonly result: unknown } | { readonly error: ErrorBody }

export class RequestTable {
  readonly #db: Database

  constructor(db: Database) {
    this.#db = db
  }

  get(id: string): { readonly operation: string; readonly outcome: Outcome } | null {
    const row = this.#db.get('SELECT operation, outcome FROM requests WHERE id = ?', id)
    if (row === undefined) return null
    return { operation: String(row['operation']), outcome: JSON.parse(String(row['outcome'])) as Outcome }
  }

  /** The first answer stays. */
  put(id: string, operation: string, outcome: Outcome): void {
    this.#db.run(
      'INSERT OR IGNORE INTO requests (id, operation, outcome, at) VALUES (?, ?, ?, ?)',
      id,
      operation,
      JSON.stringify(outcome),
      Date.now(),
    )
  }

  prune(nowMs: number): void {
    this.#db.run('DELETE FROM requests WHERE at < ?', nowMs - KEPT_MS)
  }
}
