import { closeSync, openSync, readSync } from 'node:fs'
import { DatabaseSync, type SQLOutputValue, type StatementSync } from 'node:sqlite'
import { PyroError } from '@pyro/protocol'
import { sleep } from '../lib/wait.ts'
import { makeDatabasePrivate } from './private-file.ts'
import { MIGRATIONS, SCHEMA_VERSION } from './schema.ts'

/** Where `user_version` stands in the header of a database file, big-endian. */
const USER_VERSION_OFFSET = 60
const HEADER_BYTES = 100
/** How long what has happened already waits for its place in the state. */
const INSIST_MS = 60_000
const INSIST_PAUSE_MS = 250

export type Row = Record<string, SQLOutputValue>

/** state.db: write-ahead log, one connection, prepared statements kept. */
export class Database {
  readonly #db: DatabaseSync
  readonly #statements = new Map<string, StatementSync>()
  #depth = 0
  #takeBacks: (() => void)[] = []

  private constructor(db: DatabaseSync) {
    this.#db = db
  }

  /** Fails with `state.too-new` before anything is touched. */
  static open(path: string): Database {
    refuseNewer(path, versionInHeader(path))
    makeDatabasePrivate(path)
    const db = new DatabaseSync(path)
    db.exec('PRAGMA busy_timeout = 5000; PRAGMA foreign_keys = ON')
    const version = Number(db.prepare('PRAGMA user_version').get()?.['user_version'] ?? 0)
    refuseNewer(path, version)
    for (const [index, migration] of MIGRATIONS.entries()) {
      if (index < version) continue
      db.exec(`BEGIN IMMEDIATE; ${migration}; PRAGMA user_version = ${index + 1}; COMMIT`)
    }
    // NORMAL: a crash of the host may lose the last transactions, never the order or the whole; SIGKILL loses nothing.
    db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL')
    return new Database(db)
  }

  run(sql: string, ...values: (string | number | bigint | null | Uint8Array)[]): number {
    return Number(this.#prepare(sql).run(...values).changes)
  }

  insert(sql: string, ...values: (string | number | bigint | null | Uint8Array)[]): number {
    return Number(this.#prepare(sql).run(...values).lastInsertRowid)
  }

  get(sql: string, ...values: (string | number | null)[]): Row | undefined {
    return this.#prepare(sql).get(...values)
  }

  all(sql: string, ...values: (string | number | null)[]): Row[] {
    return this.#prepare(sql).all(...values)
  }

  /** All or nothing. A transaction inside another one joins it. */
  transaction<T>(work: () => T): T {
    if (this.#depth > 0) return work()
    this.#db.exec('BEGIN IMMEDIATE')
    this.#depth++
    try {
      const result = work()
      this.#depth--
      this.#db.exec('COMMIT')
      this.#takeBacks = []
      return result
    } catch (error) {
      this.#depth = 0
      for (const takeBack of this.#takeBacks.splice(0).toReversed()) takeBack()
      // A disk that ran full may have rolled it back already.
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK')
      throw error
    }
  }

  /** For what changes in memory inside a transaction: it goes back with it. */
  onRollback(takeBack: () => void): void {
    if (this.#depth > 0) this.#takeBacks.push(takeBack)
  }

  /** For what cannot be taken back: while the state cannot be written, for want of space, it is tried again, for a minute. */
  async insist<T>(work: () => T | Promise<T>): Promise<T> {
    const until = performance.now() + INSIST_MS
    for (;;) {
      try {
        return await work()
      } catch (error) {
        if (!isUnwritten(error) || performance.now() > until) throw error
      }
      await sleep(INSIST_PAUSE_MS)
    }
  }

  close(): void {
    this.#db.close()
  }

  #prepare(sql: string): StatementSync {
    let statement = this.#statements.get(sql)
    if (statement === undefined) {
      statement = this.#db.prepare(sql)
      this.#statements.set(sql, statement)
    }
    return statement
  }
}

/** SQLITE_FULL */
const FULL = 13
/** SQLITE_READONLY, SQLITE_IOERR and SQLITE_CANTOPEN, each with more in the bytes above. */
const UNWRITABLE: ReadonlySet<number> = new Set([8, 10, 14])

const errorCodeOf = (error: unknown): number => ((error as { errcode?: number } | null)?.errcode ?? 0) & 0xff

/** True when a write failed because the host has no space left. */
export const isHostFull = (error: unknown): boolean => errorCodeOf(error) === FULL

/** True when the host let nothing be written for another reason, e.g. a filesystem that became read-only. */
export const isUnwritable = (error: unknown): boolean => UNWRITABLE.has(errorCodeOf(error))

/** True when the host did not take a write, for whatever reason of its own. */
export const isUnwritten = (error: unknown): boolean => isHostFull(error) || isUnwritable(error)

const refuseNewer = (path: string, version: number): void => {
  if (version <= SCHEMA_VERSION) return
  throw new PyroError(
    'state.too-new',
    `${path} was written by a newer Pyro (state version ${version}, this one knows ${SCHEMA_VERSION}); nothing was touched`,
    { hint: 'install the newer version again, or use another PYRO_HOME', data: { version, known: SCHEMA_VERSION } },
  )
}

/** Read from the file itself, because opening a database in WAL mode writes beside it. */
const versionInHeader = (path: string): number => {
  const header = Buffer.alloc(HEADER_BYTES)
  let file: number
  try {
    file = openSync(path, 'r')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 0
    throw error
  }
  try {
    const bytes = readSync(file, header, 0, HEADER_BYTES, 0)
    return bytes < HEADER_BYTES ? 0 : header.readUInt32BE(USER_VERSION_OFFSET)
  } finally {
    closeSync(file)
  }
}
