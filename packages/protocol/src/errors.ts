/**
 * The one catalogue of errors. Every failure that leaves Pyro, on any surface, carries one of these codes.
 * A code fixes the HTTP status, the CLI's exit code and whether trying again unchanged can help.
 */

/** Exit codes of the CLI (commands that carry a user's own exit code use 125 for all of these). */
export const EXIT = {
  ok: 0,
  other: 1,
  usage: 2,
  conflict: 3,
  notFound: 4,
  limit: 5,
  unsupported: 6,
  unreachable: 7,
  timedOut: 8,
} as const

export interface ErrorKind {
  /** HTTP status of the response that carries the error. */
  readonly status: number
  /** Exit code of the CLI. */
  readonly exit: number
  /** True when the same call may succeed later without a change by the user. */
  readonly retryable: boolean
  /** When it happens, for the error table in the docs. */
  readonly summary: string
  /** What to do next, where the error itself does not know it better. Null where there is nothing to do. */
  readonly hint: string | null
}

const kind = (
  status: number,
  exit: number,
  retryable: boolean,
  [summary, hint]: readonly [summary: string, hint: string | null],
): ErrorKind => ({ status, exit, retryable, summary, hint })

export const ERRORS = {
  'workspace.not-found': kind(404, EXIT.notFound, false, ['no workspace has this id or name', 'pyro workspace list']),
  'workspace.name-taken': kind(409, EXIT.conflict, false, [
    'another workspace has this name',
    'take another name, or --if-absent returns the workspace that has it',
  ]),
  'workspace.busy': kind(409, EXIT.conflict, true, [
    'another operation held the workspace for longer than the call waits',
    'try again; pyro workspace status WS says what it does',
  ]),
  'workspace.wrong-phase': kind(409, EXIT.conflict, false, [
    'the workspace is in a phase that does not allow this',
    'pyro workspace status WS',
  ]),
  'workspace.lost': kind(500, EXIT.other, false, [
    'the disk of the workspace is gone; it can only be deleted',
    'pyro workspace delete WS',
  ]),
  'workspace.start-failed': kind(500, EXIT.other, true, [
    'the sandbox did not come up; the workspace is as before',
    'pyro daemon logs; pyro doctor says what is missing',
  ]),
  'sandbox.unreachable': kind(503, EXIT.unreachable, true, [
    'the sandbox does not answer or died during the call',
    'pyro workspace status WS; pyro workspace reset WS brings a new sandbox',
  ]),
  'snapshot.not-found': kind(404, EXIT.notFound, false, [
    'the workspace has no snapshot of this name',
    'pyro workspace snapshot list WS',
  ]),
  'snapshot.exists': kind(409, EXIT.conflict, false, [
    'the workspace has a snapshot of this name already',
    'use --replace, or another name',
  ]),
  'snapshot.reserved': kind(409, EXIT.conflict, false, [
    'baseline and current are reserved names',
    'take another name',
  ]),
  'environment.not-found': kind(404, EXIT.notFound, false, [
    'neither the catalog nor this host knows the environment',
    'pyro env list',
  ]),
  'environment.in-use': kind(409, EXIT.conflict, false, [
    'a workspace still stands on this environment',
    'pyro env inspect ENV names the workspaces',
  ]),
  'environment.pull-failed': kind(502, EXIT.other, true, [
    'making the environment available failed',
    'run it again; pyro doctor says what is missing',
  ]),
  'environment.invalid': kind(422, EXIT.usage, false, [
    'the imported root filesystem or image cannot be used',
    'import a root filesystem tar, or an OCI image layout of this platform',
  ]),
  'command.not-found': kind(404, EXIT.notFound, false, [
    'no command has this id since the last reset',
    'pyro workspace command list WS',
  ]),
  'command.interrupted': kind(409, EXIT.conflict, false, [
    'the command ended because its sandbox did',
    'pyro workspace status WS',
  ]),
  'command.failed': kind(422, EXIT.other, false, [
    'with `check`, the command did not end with 0',
    'pyro workspace logs WS --command CMD',
  ]),
  'path.not-found': kind(404, EXIT.notFound, false, ['the path does not exist', 'look at the folder above it']),
  'path.exists': kind(409, EXIT.conflict, false, ['the path exists already', 'use --force, or another path']),
  'path.outside-root': kind(400, EXIT.usage, false, [
    'the path leaves the root it must stay below',
    'use --root / for a path anywhere in the machine',
  ]),
  'path.not-a-file': kind(400, EXIT.usage, false, [
    'the path is not a regular file, or not a directory where one is needed',
    'name a file of the right kind',
  ]),
  'path.unreadable': kind(403, EXIT.other, false, ['the path cannot be read', 'look at its permissions']),
  'path.unwritable': kind(403, EXIT.other, false, [
    'the path on the host cannot be written',
    'look at the permissions of its folder',
  ]),
  'path.text-mismatch': kind(409, EXIT.conflict, false, [
    'the text to replace does not occur exactly as often as required',
    'pyro workspace file read WS PATH shows what is there',
  ]),
  'archive.unsafe-entry': kind(400, EXIT.usage, false, [
    'the archive holds an entry that is refused; nothing was written',
    'make the archive without this entry',
  ]),
  'archive.too-large': kind(413, EXIT.limit, false, [
    'the archive is beyond a limit; nothing was written',
    'leave files out; --seed-git takes no ignored ones',
  ]),
  'archive.truncated': kind(400, EXIT.usage, false, [
    'the archive ends early or is damaged; nothing was written',
    'make the archive again',
  ]),
  'input.invalid': kind(400, EXIT.usage, false, [
    'a parameter is missing, unknown or malformed',
    '--help lists what a command takes, docs/public-contract.md every field',
  ]),
  'limit.exceeded': kind(429, EXIT.limit, true, [
    'a limit of Pyro or of the host is reached',
    'remove what is not needed any more; docs/public-contract.md lists the limits',
  ]),
  'disk.full': kind(507, EXIT.limit, false, [
    'no space left, in the workspace or on the host',
    'remove files or snapshots; pyro env prune frees what no workspace needs',
  ]),
  'driver.unavailable': kind(501, EXIT.unsupported, false, ['the driver does not work on this host', 'pyro doctor']),
  'isolation.unavailable': kind(501, EXIT.unsupported, false, [
    'no driver of the asked isolation works on this host',
    'pyro doctor',
  ]),
  'host.needs-root': kind(403, EXIT.unsupported, false, ['this needs root on the host', 'run it with sudo']),
  'host.missing-tool': kind(501, EXIT.unsupported, false, [
    'a program or kernel feature is missing on the host',
    'pyro doctor names the package',
  ]),
  'host-path.not-allowed': kind(403, EXIT.usage, false, [
    'the path on the host is outside what this server may touch',
    '--project-path, --allow-read and --allow-write of pyro mcp serve say what may be touched',
  ]),
  'engine.unreachable': kind(503, EXIT.unreachable, true, ['the engine does not answer', 'pyro daemon logs']),
  'engine.not-installed': kind(501, EXIT.unsupported, false, [
    'the engine program cannot be found',
    'npm install @pyro/engine',
  ]),
  'engine.version-mismatch': kind(409, EXIT.conflict, false, [
    'client and engine are of different versions',
    'pyro daemon restart',
  ]),
  'state.too-new': kind(500, EXIT.conflict, false, [
    'the state folder was written by a newer version',
    'use the version of Pyro that wrote it',
  ]),
  'state.lost': kind(500, EXIT.conflict, false, [
    'the state folder of the running engine was removed, moved or replaced',
    'put it back as it was, or give it up: pyro daemon stop',
  ]),
  'request.cancelled': kind(499, EXIT.other, false, ['the caller cancelled', null]),
  'request.timed-out': kind(504, EXIT.timedOut, true, [
    'the wait ended before the operation did',
    'wait again, or longer',
  ]),
  internal: kind(500, EXIT.other, false, ['a defect in Pyro; the engine stays up', 'pyro daemon logs']),
} as const satisfies Record<string, ErrorKind>

export type ErrorCode = keyof typeof ERRORS

export const isErrorCode = (text: string): text is ErrorCode => Object.hasOwn(ERRORS, text)

/** JSON form of an error, the same on every surface. */
export interface ErrorBody {
  readonly code: ErrorCode
  readonly message: string
  readonly hint: string | null
  readonly data: Record<string, unknown> | null
}

export interface PyroErrorOptions {
  /** What to do next: names the command. Default: the hint of the code. */
  readonly hint?: string | undefined
  /** Machine-readable detail, JSON only. */
  readonly data?: Record<string, unknown> | undefined
  readonly cause?: unknown
}

/** An expected failure. `code` decides everything; the message names the thing and says whether anything was changed. */
export class PyroError extends Error {
  override readonly name = 'PyroError'
  readonly code: ErrorCode
  readonly hint: string | null
  readonly data: Record<string, unknown> | null

  constructor(code: ErrorCode, message: string, options: PyroErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.hint = options.hint ?? ERRORS[code].hint
    this.data = options.data ?? null
  }

  toBody(): ErrorBody {
    return { code: this.code, message: this.message, hint: this.hint, data: this.data }
  }

  static fromBody(body: ErrorBody): PyroError {
    return new PyroError(isErrorCode(body.code) ? body.code : 'internal', body.message, {
      hint: body.hint ?? undefined,
      data: body.data ?? undefined,
    })
  }
}

/** Recognises a PyroError by shape, so that two copies of this package in one process agree. */
export const isPyroError = (value: unknown): value is PyroError =>
  value instanceof Error && value.name === 'PyroError' && 'code' in value && isErrorCode(String(value.code))
