import type { Failure, Phase, WorkspaceId, WorkspaceRecord } from '@pyro/protocol'
import type { Database, Row } from './database.ts'

/** Everything of a workspace that outlives the engine. Times are milliseconds since 1970. */
export interface WorkspaceRow {
  readonly id: WorkspaceId
  readonly name: string
  readonly phase: Phase
  /** Number of the sandbox that carries it now or carried it last; 0 before the first. */
  readonly generation: number
  readonly activityAt: number
  /** Number of the last command since the last reset. */
  readonly commandSequence: number
  readonly labels: Readonly<Record<string, string>>
  readonly environment: {
    readonly name: string
    readonly digest: string
    /** Volume the workspace was cloned from. */
    readonly volume: string
    readonly env: Readonly<Record<string, string>>
    readonly user: string
    readonly workingDir: string
  }
  readonly driver: string
  readonly isolation: WorkspaceRecord['isolation']
  readonly emulated: boolean
  readonly vcpus: number
  readonly memoryMib: number
  readonly diskMib: number
  readonly diskEnforced: boolean
  readonly env: Readonly<Record<string, string>>
  readonly seed: WorkspaceRecord['seed']
  /** 32 hex; like the hostname it belongs to the workspace, not to a generation. */
  readonly machineId: string
  readonly hostname: string
  /** The writable volume. */
  readonly volume: string
  /** Volume of the snapshot that the writable volume was cloned from. */
  readonly clonedFrom: string
  /** Number of the next sandbox: never used twice, not even after a failure. */
  readonly nextGeneration: number
  /** Serial of the next snapshot volume. */
  readonly nextSerial: number
  readonly createdAt: number
  readonly expiresAt: number | null
  readonly resetCount: number
  readonly lastResetAt: number | null
  readonly lastResetSnapshot: string | null
  readonly failure: Failure | null
  /** Request id of a `run` that deletes the workspace when its command has ended; null otherwise. */
  readonly ephemeral: string | null
}

type Columns = 'id' | 'name' | 'phase' | 'generation' | 'activityAt' | 'commandSequence'

export class WorkspaceTable {
  readonly #db: Database

  constructor(db: Database) {
    this.#db = db
  }

  all(): WorkspaceRow[] {
    return this.#db.all('SELECT * FROM workspaces').map(fromRow)
  }

  insert(row: WorkspaceRow): void {
    this.#db.run(
      'INSERT INTO workspaces (id, name, phase, generation, activity_at, command_sequence, data) VALUES (?, ?, ?, ?, ?, ?, ?)',
      row.id,
      row.name,
      row.phase,
      row.generation,
      row.activityAt,
      row.commandSequence,
      dataOf(row),
    )
  }

  update(row: WorkspaceRow): void {
    this.#db.run(
      'UPDATE workspaces SET name = ?, phase = ?, generation = ?, activity_at = ?, command_sequence = ?, data = ? WHERE id = ?',
      row.name,
      row.phase,
      row.generation,
      row.activityAt,
      row.commandSequence,
      dataOf(row),
      row.id,
    )
  }

  /** The short way for what every command changes. */
  touch(row: Pick<WorkspaceRow, 'id' | 'activityAt' | 'commandSequence'>): void {
    this.#db.run(
      'UPDATE workspaces SET activity_at = ?, command_sequence = ? WHERE id = ?',
      row.activityAt,
      row.commandSequence,
      row.id,
    )
  }

  /** With its snapshots, commands and cleared ids. */
  delete(id: string): void {
    this.#db.run('DELETE FROM workspaces WHERE id = ?', id)
  }
}

const dataOf = ({ id, name, phase, generation, activityAt, commandSequence, ...data }: WorkspaceRow): string =>
  JSON.stringify(data)

const fromRow = (row: Row): WorkspaceRow => ({
  ...(JSON.parse(String(row['data'])) as Omit<WorkspaceRow, Columns>),
  id: String(row['id']) as WorkspaceId,
  name: String(row['name']),
  phase: String(row['phase']) as Phase,
  generation: Number(row['generation']),
  activityAt: Number(row['activity_at']),
  commandSequence: Number(row['command_sequence']),
})
