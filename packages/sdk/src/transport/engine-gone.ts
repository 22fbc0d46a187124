/** The connection ended before the engine had answered: the engine died, restarted or is not there. */
export class EngineGone extends Error {
  override readonly name = 'EngineGone'
  /** True when nobody listened at all. */
  readonly refused: boolean

  constructor(message: string, options: { readonly cause?: unknown; readonly refused?: boolean } = {}) {
    super(message, { cause: options.cause })
    this.refused = options.refused ?? false
  }
}

/** Errnos that mean "no engine at the other end". */
const REFUSED = new Set(['ECONNREFUSED', 'ENOENT'])
const GONE = new Set([...REFUSED, 'ECONNRESET', 'EPIPE', 'ERR_STREAM_PREMATURE_CLOSE', 'ECONNABORTED'])

/** What a failed connection means: only errors of the connection itself belong here, never those of files or callers. */
export const connectionError = (error: unknown): unknown => {
  const code = String((error as NodeJS.ErrnoException | null)?.code)
  return GONE.has(code) ? new EngineGone('the engine is gone', { cause: error, refused: REFUSED.has(code) }) : error
}
