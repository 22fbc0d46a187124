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
}

const kind = (status: number, exit: number, retryable: boolean, summary: string): ErrorKind => ({
  status,
  exit,
  retryable,
  summary,
})

export const ERRORS = {
  'workspace.not-found': kind(404, EXIT.notFound, false, 'no workspace has this id or name'),
  'workspace.name-taken': kind(409, EXIT.conflict, false, 'another workspace has this name'),
  'workspace.busy': kind(
    409,
    EXIT.conflict,
    true,
    'another operation held the workspace for longer than the call waits',
  ),
  'workspace.wrong-phase': kind(409, EXIT.conflict, false, 'the workspace is in a phase that does not allow this'),
  'workspace.lost': kind(500, EXIT.other, false, 'the disk of the workspace is gone; it can only be deleted'),
  'workspace.start-failed': kind(500, EXIT.other, true, 'the sandbox did not come up; the workspace is as before'),
  'sandbox.unreachable': kind(503, EXIT.unreachable, true, 'the sandbox does not answer or died during the call'),
  'snapshot.not-found': kind(404, EXIT.notFound, false, 'the workspace has no snapshot of this name'),
  'snapshot.exists': kind(409, EXIT.conflict, false, 'the workspace has a snapshot of this name already'),
  'snapshot.reserved': kind(409, EXIT.conflict, false, 'baseline and current are reserved names'),
  'environment.not-found': kind(404, EXIT.notFound, false, 'neither the catalog nor this host knows the environment'),
  'environment.in-use': kind(409, EXIT.conflict, false, 'a workspace still stands on this environment'),
  'environment.pull-failed': kind(502, EXIT.other, true, 'making the environment available failed'),
  'environment.invalid': kind(422, EXIT.usage, false, 'the imported root filesystem or image cannot be used'),
  'command.not-found': kind(404, EXIT.notFound, false, 'no command has this id since the last reset'),
  'command.interrupted': kind(409, EXIT.conflict, false, 'the command ended because its sandbox did'),
  'command.failed': kind(422, EXIT.other, false, 'with `check`, the command did not end with 0'),
  'path.not-found': kind(404, EXIT.notFound, false, 'the path does not exist'),
  'path.exists': kind(409, EXIT.conflict, false, 'the path exists already'),
  'path.outside-root': kind(400, EXIT.usage, false, 'the path leaves the root it must stay below'),
  'path.not-a-file': kind(
    400,
    EXIT.usage,
    false,
    'the path is not a regular file, or not a directory where one is needed',
  ),
  'path.unreadable': kind(403, EXIT.other, false, 'the path cannot be read'),
  'path.unwritable': kind(403, EXIT.other, false, 'the path on the host cannot be written'),
  'path.text-mismatch': kind(
    409,
    EXIT.conflict,
    false,
    'the text to replace does not occur exactly as often as required',
  ),
  'archive.unsafe-entry': kind(
    400,
    EXIT.usage,
    false,
    'the archive holds an entry that is refused; nothing was written',
  ),
  'archive.too-large': kind(413, EXIT.limit, false, 'the archive is beyond a limit; nothing was written'),
  'archive.truncated': kind(400, EXIT.usage, false, 'the archive ends early or is damaged; nothing was written'),
  'input.invalid': kind(400, EXIT.usage, false, 'a parameter is missing, unknown or malformed'),
  'limit.exceeded': kind(429, EXIT.limit, true, 'a limit of Pyro or of the host is reached'),
  'disk.full': kind(507, EXIT.limit, false, 'no space left, in the workspace or on the host'),
  'driver.unavailable': kind(501, EXIT.unsupported, false, 'the driver does not work on this host'),
  'isolation.unavailable': kind(501, EXIT.unsupported, false, 'no driver of the asked isolation works on this host'),
  'host.needs-root': kind(403, EXIT.unsupported, false, 'this needs root on the host'),
  'host.missing-tool': kind(501, EXIT.unsupported, false, 'a program or kernel feature is missing on the host'),
  'host-path.not-allowed': kind(403, EXIT.usage, false, 'the path on the host is outside what this server may touch'),
  'engine.unreachable': kind(503, EXIT.unreachable, true, 'the engine does not answer'),
  'engine.not-installed': kind(501, EXIT.unsupported, false, 'the engine program cannot be found'),
  'engine.version-mismatch': kind(409, EXIT.conflict, false, 'client and engine are of different versions'),
  'state.too-new': kind(500, EXIT.conflict, false, 'the state folder was written by a newer version'),
  'request.cancelled': kind(499, EXIT.other, false, 'the caller cancelled'),
  'request.timed-out': kind(504, EXIT.timedOut, true, 'the wait ended before the operation did'),
  'leaks.found': kind(409, EXIT.conflict, false, 'doctor --leaks found something without an owner'),
  internal: kind(500, EXIT.other, false, 'a defect in Pyro; the engine stays up'),
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
  /** What to do next: names the command. */
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
    this.hint = options.hint ?? null
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
