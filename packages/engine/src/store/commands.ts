import type { LimitHit } from '@pyro/protocol'
import { isUnwritten, type Database, type Row } from './database.ts'

/** One command since the last reset. Times are milliseconds since 1970. */
export interface CommandRow {
  readonly id: string
  readonly workspaceId: string
  readonly generation: number
  readonly sequence: number
  /** Request that started it: a repeated call finds it again. */
  readonly requestId: string | null
  readonly state: 'running' | 'exited' | 'interrupted'
  readonly command: string | readonly string[]
  readonly cwd: string
  readonly startedAt: number
  readonly endedAt: number | null
  readonly exitCode: number | null
  readonly signal: string | null
  readonly timedOut: boolean
  readonly limit: LimitHit | null
  readonly interruptedBy: string | null
  readonly stdoutBytes: number
  readonly stderrBytes: number
  /** Bytes of output that the log has; less than both streams when it was cut. */
  readonly logBytes: number
}

/** First and last bytes of both streams. */
export interface CommandInline {
  readonly stdoutHead: Uint8Array
  readonly stdoutTail: Uint8Array
  readonly stderrHead: Uint8Array
  readonly stderrTail: Uint8Array
}

const NO_INLINE = 'id, workspace_id, generation, sequence, request_id, state, data'
const EMPTY = new Uint8Array(0)

interface CommandEnding {
  readonly row: CommandRow
  readonly inline: CommandInline
}

export class CommandTable {
  readonly #db: Database
  /** Ends that a full or read-only host kept from the file: they are seen all the same, and written when there is room. */
  readonly #unwritten = new Map<string, CommandEnding>()

  constructor(db: Database) {
    this.#db = db
  }

  insert(row: CommandRow): void {
    this.#db.run(
      'INSERT INTO commands (id, workspace_id, generation, sequence, request_id, state, data) VALUES (?, ?, ?, ?, ?, ?, ?)',
      row.id,
      row.workspaceId,
      row.generation,
      row.sequence,
      row.requestId,
      row.state,
      dataOf(row),
    )
  }

  /** False when the host does not take it now: a later engine must be able to learn of it elsewhere. */
  end(row: CommandRow, inline: CommandInline): boolean {
    this.#unwritten.set(row.id, { row, inline })
    this.writeEnds()
    return !this.#unwritten.has(row.id)
  }

  /** Writes what the host kept from the file so far. */
  writeEnds(): void {
    try {
      for (const [id, ending] of this.#unwritten) {
        this.#writeEnd(ending)
        this.#unwritten.delete(id)
      }
    } catch (error) {
      if (!isUnwritten(error)) throw error
    }
  }

  #writeEnd({ row, inline }: CommandEnding): void {
    this.#db.run(
      `UPDATE commands SET state = ?, data = ?, stdout_head = ?, stdout_tail = ?, stderr_head = ?, stderr_tail = ?
       WHERE id = ?`,
      row.state,
      dataOf(row),
      inline.stdoutHead,
      inline.stdoutTail,
      inline.stderrHead,
      inline.stderrTail,
      row.id,
    )
  }

  get(id: string): CommandRow | null {
    const row = this.#db.get(`SELECT ${NO_INLINE} FROM commands WHERE id = ?`, id)
    return row === undefined ? null : this.#fromRow(row)
  }

  byRequest(requestId: string): CommandRow | null {
    const row = this.#db.get(`SELECT ${NO_INLINE} FROM commands WHERE request_id = ?`, requestId)
    return row === undefined ? null : this.#fromRow(row)
  }

  inline(id: string): CommandInline {
    const unwritten = this.#unwritten.get(id)
    if (unwritten !== undefined) return unwritten.inline
    const row = this.#db.get('SELECT stdout_head, stdout_tail, stderr_head, stderr_tail FROM commands WHERE id = ?', id)
    const part = (name: string): Uint8Array => (row?.[name] as Uint8Array | null | undefined) ?? EMPTY
    return {
      stdoutHead: part('stdout_head'),
      stdoutTail: part('stdout_tail'),
      stderrHead: part('stderr_head'),
      stderrTail: part('stderr_tail'),
    }
  }

  /** Oldest first, the newest `limit` of them. */
  of(workspaceId: string, limit: number): CommandRow[] {
    return this.#db
      .all(
        `SELECT ${NO_INLINE} FROM commands WHERE workspace_id = ? ORDER BY sequence DESC LIMIT ?`,
        workspaceId,
        limit,
      )
      .map((row) => this.#fromRow(row))
      .toReversed()
  }

  last(workspaceId: string): CommandRow | null {
    return this.of(workspaceId, 1)[0] ?? null
  }

  running(): CommandRow[] {
    return this.#db
      .all(`SELECT ${NO_INLINE} FROM commands WHERE state = 'running' ORDER BY sequence`)
      .map((row) => this.#fromRow(row))
      .filter(({ state }) => state === 'running')
  }

  ids(workspaceId: string): Set<string> {
    return new Set(
      this.#db.all('SELECT id FROM commands WHERE workspace_id = ?', workspaceId).map((row) => String(row['id'])),
    )
  }

  count(workspaceId: string): number {
    return Number(this.#db.get('SELECT count(*) AS n FROM commands WHERE workspace_id = ?', workspaceId)?.['n'] ?? 0)
  }

  /** Ended ones beyond the newest `keep`: their ids. They are gone then. */
  trim(workspaceId: string, keep: number): string[] {
    return this.#db
      .all(
        `DELETE FROM commands WHERE workspace_id = ?1 AND state <> 'running' AND sequence <= (
           SELECT sequence FROM commands WHERE workspace_id = ?1 ORDER BY sequence DESC LIMIT 1 OFFSET ?2
         ) RETURNING id`,
        workspaceId,
        keep,
      )
      .map((row) => String(row['id']))
  }

  /** Drops the whole history; its ids are remembered until the next time. */
  clear(workspaceId: string, atMs: number): void {
    this.#db.run('DELETE FROM cleared_commands WHERE workspace_id = ?', workspaceId)
    this.#db.run(
      'INSERT INTO cleared_commands (id, workspace_id, cleared_at) SELECT id, workspace_id, ? FROM commands WHERE workspace_id = ?',
      atMs,
      workspaceId,
    )
    this.#db.run('DELETE FROM commands WHERE workspace_id = ?', workspaceId)
    for (const [id, { row }] of this.#unwritten) if (row.workspaceId === workspaceId) this.#unwritten.delete(id)
  }

  clearedAt(workspaceId: string, id: string): number | null {
    const row = this.#db.get(
      'SELECT cleared_at FROM cleared_commands WHERE id = ? AND workspace_id = ?',
      id,
      workspaceId,
    )
    return row === undefined ? null : Number(row['cleared_at'])
  }

  delete(id: string): void {
    this.#db.run('DELETE FROM commands WHERE id = ?', id)
    this.#unwritten.delete(id)
  }

  #fromRow(row: Row): CommandRow {
    return this.#unwritten.get(String(row['id']))?.row ?? fromRow(row)
  }
}

type Columns = 'id' | 'workspaceId' | 'generation' | 'sequence' | 'requestId' | 'state'

const dataOf = ({ id, workspaceId, generation, sequence, requestId, state, ...data }: CommandRow): string =>
  JSON.stringify(data)

const fromRow = (row: Row): CommandRow => ({
  ...(JSON.parse(String(row['data'])) as Omit<CommandRow, Columns>),
  id: String(row['id']),
  workspaceId: String(row['workspace_id']),
  generation: Number(row['generation']),
  sequence: Number(row['sequence']),
  requestId: row['request_id'] === null ? null : String(row['request_id']),
  state: String(row['state']) as CommandRow['state'],
})
