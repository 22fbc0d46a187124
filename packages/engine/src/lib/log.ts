import { pino, type Logger } from 'pino'

export type Log = Logger

/** JSON lines on stderr; whoever starts the engine decides which file that is. */
export const createLog = (level: string): Log =>
  pino({ level, base: null, timestamp: pino.stdTimeFunctions.isoTime }, pino.destination({ fd: 2, sync: true }))

/** What of an unknown thrown value goes into the log. */
export const errorFields = (error: unknown): Record<string, unknown> => {
  if (!(error instanceof Error)) return { error: String(error) }
  const code = (error as NodeJS.ErrnoException).code
  return {
    error: error.message,
    ...(code === undefined ? {} : { code }),
    ...(error.name === 'PyroError' ? {} : { stack: error.stack }),
    ...(error.cause === undefined ? {} : { cause: errorFields(error.cause) }),
  }
}
