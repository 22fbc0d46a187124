import { CommandTable } from './commands.ts'
import { Database } from './database.ts'
import { IntentTable } from './intents.ts'
import { ReleaseTable } from './releases.ts'
import { RequestTable } from './requests.ts'
import { SandboxTable } from './sandboxes.ts'
import { SnapshotTable } from './snapshots.ts'
import { WorkspaceTable } from './workspaces.ts'

/** What of the host and of this home is remembered between engines. */
export type MetaKey = 'home' | 'hostBootId' | 'idBase'

/** state.db, table by table. All calls are synchronous and short. */
export class Store {
  readonly workspaces: WorkspaceTable
  readonly snapshots: SnapshotTable
  readonly sandboxes: SandboxTable
  readonly commands: CommandTable
  readonly intents: IntentTable
  readonly releases: ReleaseTable
  readonly requests: RequestTable
  readonly #db: Database

  private constructor(db: Database) {
    this.#db = db
    this.workspaces = new WorkspaceTable(db)
    this.snapshots = new SnapshotTable(db)
    this.sandboxes = new SandboxTable(db)
    this.commands = new CommandTable(db)
    this.intents = new IntentTable(db)
    this.releases = new ReleaseTable(db)
    this.requests = new RequestTable(db)
  }

  static open(path: string): Store {
    return new Store(Database.open(path))
  }

  meta(key: MetaKey): string | null {
    const row = this.#db.get('SELECT value FROM meta WHERE key = ?', key)
    return row === undefined ? null : String(row['value'])
  }

  setMeta(key: MetaKey, value: string): void {
    this.#db.run('INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)', key, value)
  }

  transaction<T>(work: () => T): T {
    return this.#db.transaction(work)
  }

  /** For what changes in memory inside a transaction: it goes back with it. */
  onRollback(takeBack: () => void): void {
    this.#db.onRollback(takeBack)
  }

  /** For what cannot be taken back: tried again, for a minute, while the host has no space. */
  insist<T>(work: () => T | Promise<T>): Promise<T> {
    return this.#db.insist(work)
  }

  close(): void {
    this.#db.close()
  }
}
