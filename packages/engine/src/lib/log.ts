import { writeSync } from 'node:fs'
import { pino, type Logger } from 'pino'

export type Log = Logger

/** JSON lines on stderr; whoever starts the engine decides which file that is. */
export const createLog = (level: string): Log =>
  pino({ level, base: null, timestamp: pino.stdTimeFunctions.isoTime }, linesTo(STDERR))

const STDERR = 2

/** A file that takes nothing now, on a full or read-only disk, loses lines and ends nobody. What comes after a cut line begins anew. */
export const linesTo = (file: number): { write(line: string): void } => {
  let isCut = false
  return {
    write: (line) => {
      let left = Buffer.from(isCut ? `\n${line}` : line)
      try {
        while (left.length > 0) {
          left = left.subarray(writeSync(file, left))
          isCut = true
        }
        isCut = false
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === undefined) throw error
      }
    },
  }
}

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
