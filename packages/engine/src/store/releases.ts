import type { Database } from './database.ts'

/** Something nobody needs any more; written in the transaction that gave it up, done in the background. */
export type Release =
  | { readonly kind: 'volume'; readonly driver: string; readonly volume: string }
  | { readonly kind: 'sandbox'; readonly sandbox: string }
  | { readonly kind: 'command-log'; readonly command: string }
  | { readonly kind: 'command-logs' }

export interface ReleaseRow {
  readonly id: number
  readonly workspaceId: string
  readonly thing: Release
}

export class ReleaseTable {
  readonly #db: Database

  constructor(db: Database) {
    this.#db = db
  }

  /** In the order of their giving up: a sandbox comes before its volume. */
  all(): ReleaseRow[] {
    return this.#db.all('SELECT * FROM releases ORDER BY id').map((row) => ({
      id: Number(row['id']),
      workspaceId: String(row['workspace_id']),
      thing: JSON.parse(String(row['thing'])) as Release,
    }))
  }

  add(workspaceId: string, thing: Release): ReleaseRow {
    const id = this.#db.insert(
      'INSERT INTO releases (workspace_id, thing) VALUES (?, ?)',
      workspaceId,
      JSON.stringify(thing),
    )
    return { id, workspaceId, thing }
  }

  delete(id: number): void {
    this.#db.run('DELETE FROM releases WHERE id = ?', id)
  }
}
