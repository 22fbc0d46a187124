/** Raised with every change of the tables; a database of a newer version is refused untouched. */
export const SCHEMA_VERSION = 1

/** `migrations[n]` takes a database from version n to n + 1. */
export const MIGRATIONS: readonly string[] = [
  `
  CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

  CREATE TABLE workspaces (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    phase TEXT NOT NULL,
    generation INTEGER NOT NULL,
    activity_at INTEGER NOT NULL,
    command_sequence INTEGER NOT NULL,
    data TEXT NOT NULL
  ) WITHOUT ROWID;

  CREATE TABLE snapshots (
    workspace_id TEXT NOT NULL REFERENCES workspaces(id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    volume TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (workspace_id, name)
  ) WITHOUT ROWID;

  CREATE TABLE sandboxes (
    id TEXT PRIMARY KEY,
    workspace_id TEXT NOT NULL,
    generation INTEGER NOT NULL,
    state TEXT NOT NULL,
    record TEXT NOT NULL
  ) WITHOUT ROWID;

  CREATE TABLE commands (
    id TEXT PRIMARY KEY,
    workspace_id TEXT NOT NULL REFERENCES workspaces(id) ON DELETE CASCADE,
    generation INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    request_id TEXT,
    state TEXT NOT NULL,
    data TEXT NOT NULL,
    stdout_head BLOB,
    stdout_tail BLOB,
    stderr_head BLOB,
    stderr_tail BLOB
  ) WITHOUT ROWID;
  CREATE INDEX commands_by_workspace ON commands (workspace_id, sequence);
  CREATE UNIQUE INDEX commands_by_request ON commands (request_id) WHERE request_id IS NOT NULL;

  CREATE TABLE cleared_commands (
    id TEXT PRIMARY KEY,
    workspace_id TEXT NOT NULL REFERENCES workspaces(id) ON DELETE CASCADE,
    cleared_at INTEGER NOT NULL
  ) WITHOUT ROWID;
  CREATE INDEX cleared_by_workspace ON cleared_commands (workspace_id);

  CREATE TABLE intents (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    operation TEXT NOT NULL,
    subject TEXT NOT NULL,
    step INTEGER NOT NULL,
    plan TEXT NOT NULL,
    request_id TEXT
  );

  CREATE TABLE releases (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    workspace_id TEXT NOT NULL,
    thing TEXT NOT NULL
  );

  CREATE TABLE requests (
    id TEXT PRIMARY KEY,
    operation TEXT NOT NULL,
    outcome TEXT NOT NULL,
    at INTEGER NOT NULL
  ) WITHOUT ROWID;
  CREATE INDEX requests_by_age ON requests (at);
  `,
]
