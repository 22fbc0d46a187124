import { closeSync, constants, createReadStream, fstatSync, openSync } from 'node:fs'
import { Socket } from 'node:net'
import { addAbortSignal, type Readable } from 'node:stream'
import { isatty, ReadStream as TerminalStream } from 'node:tty'
import { isPyroError, LIMITS, PyroError } from '@pyro/protocol/client'
import { formatBytes } from '../../render/format.ts'
import type { Terminal } from '../../terminal.ts'

/** Bytes asked of a file at a time. */
const READ_BYTES = 256 * 1024
/** Names of standard input. The second could not be opened where standard input is a socket. */
const STANDARD_INPUT: readonly string[] = ['-', '/dev/stdin']

/**
 * What a file of this host holds, or standard input: at most what a file write takes, and no more of it is read.
 *
 * @throws PyroError `path.not-found`, `path.not-a-file`, `path.unreadable`, `limit.exceeded`, `request.cancelled`
 */
export const hostContent = async (path: string, terminal: Terminal, signal: AbortSignal): Promise<Buffer> => {
  const stream: Readable = STANDARD_INPUT.includes(path) ? terminal.input() : openHostFile(path)
  addAbortSignal(signal, stream)
  const chunks: Buffer[] = []
  let size = 0
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      size += chunk.length
      if (size > LIMITS.fileWriteBytes) throw tooLarge()
      chunks.push(chunk)
    }
  } catch (error) {
    if (signal.aborted)
      throw new PyroError('request.cancelled', `reading ${path} was cancelled by the caller; nothing was changed`)
    throw isPyroError(error) ? error : hostFileError(path, error)
  }
  return Buffer.concat(chunks)
}

/** Opened without waiting: a pipe that nobody writes to would hold a plain open, and the process with it. */
const openHostFile = (path: string): Readable => {
  const file = guarded(path, () => openSync(path, constants.O_RDONLY | constants.O_NONBLOCK))
  try {
    const stats = fstatSync(file)
    if (stats.isFile() && stats.size > LIMITS.fileWriteBytes) throw tooLarge()
    if (stats.isFIFO()) return new Socket({ fd: file, readable: true, writable: false })
    if (isatty(file)) return new TerminalStream(file)
    return createReadStream(path, { fd: file, highWaterMark: READ_BYTES })
  } catch (error) {
    closeSync(file)
    throw error
  }
}

const guarded = <T>(path: string, open: () => T): T => {
  try {
    return open()
  } catch (error) {
    throw hostFileError(path, error)
  }
}

const hostFileError = (path: string, cause: unknown): PyroError => {
  const { code } = cause as NodeJS.ErrnoException
  const kind = code === 'ENOENT' ? 'path.not-found' : code === 'EISDIR' ? 'path.not-a-file' : 'path.unreadable'
  return new PyroError(kind, `${path} on this host cannot be read (${code}); nothing was changed`, {
    data: { path },
    cause,
  })
}

const tooLarge = (): PyroError =>
  new PyroError(
    'limit.exceeded',
    `a file write takes at most ${formatBytes(LIMITS.fileWriteBytes)}; nothing was changed`,
    {
      hint: 'pyro workspace sync push takes more',
      data: { limitBytes: LIMITS.fileWriteBytes },
    },
  )
