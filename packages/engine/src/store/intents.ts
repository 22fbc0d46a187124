import type { IntentLog } from '../lib/steps.ts'
import type { Database } from './database.ts'

/** An operation that was begun and neither finished nor undone. */
export interface IntentRow {
  readonly id: number
  readonly operation: string
  readonly subject: string
  /** Index of the step that was begun last. */
  readonly step: number
  readonly plan: unknown
  readonly requestId: string | null
}

export class IntentTable implements IntentLog {
  readonly #db: Database

  constructor(db: Database) {
    this.#db = db
  }

  all(): IntentRow[] {
    return this.#db.all('SELECT * FROM intents ORDER BY id').map((row) => ({
      id: Number(row['id']),
      operation: String(row['operation']),
      subject: String(row['subject']),
      step: Number(row['step']),
      plan: JSON.parse(String(row['plan'])) as unknown,
      requestId: row['request_id'] === null ? null : String(row['request_id']),
    }))
  }

  begin(
    intent: { operation: string; subject: string; plan: unknown; requestId: string | null },
    work: () => void,
  ): number {
    return this.#db.transaction(() => {
      const id = this.#db.insert(
        'INSERT INTO intents (operation, subject, step, plan, request_id) VALUES (?, ?, -1, ?, ?)',
        intent.operation,
        intent.subject,
        JSON.stringify(intent.plan),
        intent.requestId,
      )
      work()
      return id
    })
  }

  advance(id: number, step: number, plan: unknown): void {
    this.#db.run('UPDATE intents SET step = ?, plan = ? WHERE id = ?', step, JSON.stringify(plan), id)
  }

  insist<T>(work: () => T | Promise<T>): Promise<T> {
    return this.#db.insist(work)
  }

  /** The subject is gone: nothing that was begun with it can be finished. */
  forget(subject: string): void {
    this.#db.run('DELETE FROM intents WHERE subject = ?', subject)
  }

  end<T>(id: number, work: () => T): T {
    return this.#db.transaction(() => {
      const result = work()
      this.#db.run('DELETE FROM intents WHERE id = ?', id)
      return result
    })
  }
}
