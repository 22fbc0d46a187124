import type { ErrorBody } from '@pyro/protocol'
import type { Database } from './database.ts'

/** How long the answer to a request id is kept. */
const KEPT_MS = 60 * 60 * 1000

const partId = (id: string, part: string): string => `${id}/${part}`
/** The character behind the slash: ids of parts sort below it. */
const AFTER_PARTS = '0'

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

  /** One of several things that a request does, each done for good before the request is answered. */
  putPart(id: string, part: string, operation: string, result: unknown): void {
    this.put(partId(id, part), operation, { result })
  }

  /** What of a request is done already. */
  parts(id: string): unknown[] {
    return this.#db
      .all('SELECT outcome FROM requests WHERE id > ? AND id < ? ORDER BY id', partId(id, ''), `${id}${AFTER_PARTS}`)
      .flatMap((row) => {
        const outcome = JSON.parse(String(row['outcome'])) as Outcome
        return 'result' in outcome ? [outcome.result] : []
      })
  }

  prune(nowMs: number): void {
    this.#db.run('DELETE FROM requests WHERE at < ?', nowMs - KEPT_MS)
  }
}
