import { mkdir, open, truncate, type FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'
import { FRAME, FRAME_HEADER_BYTES, FRAME_PAYLOAD_LIMIT_BYTES, frameHeader } from '@pyro/protocol'

/** Read at a time. */
const READ_BYTES = 256 * 1024
/** Headers count, too: a command that prints byte by byte fills the file with them. */
const FILE_BYTES_PER_LOG_BYTE = 2

export type StreamName = 'stdout' | 'stderr'

/** A piece of output. `cursor` counts the bytes of both streams up to and including it. */
export interface OutputPart {
  readonly stream: StreamName
  readonly data: Buffer
  readonly cursor: number
}

/**
 * The output of one command on disk: frames in order of arrival, from the first byte on, up to a limit. What a reader may read is
 * `bytes`; it grows when a write has reached the file.
 */
export class CommandLog {
  readonly path: string
  readonly #limitBytes: number
  #file: Promise<FileHandle> | null = null
  #tail: Promise<void> = Promise.resolve()
  #fileBytes = 0
  #sealed = false
  /** Bytes of output that are in the file. */
  bytes = 0
  /** Why the log ended early; null when it did not. */
  failure: unknown = null
  #accepted = 0

  constructor(path: string, limitBytes: number) {
    this.path = path
    this.#limitBytes = limitBytes
  }

  /** Goes on behind what a former engine wrote; a frame it did not complete is cut off. `onPart` sees all that is there. */
  async recover(onPart: (part: OutputPart) => void): Promise<void> {
    const reader = await LogReader.open(this.path, 0)
    if (reader === null) return
    try {
      for (let part = await reader.next(Infinity); part !== null; part = await reader.next(Infinity)) onPart(part)
      this.bytes = reader.cursor
      this.#accepted = reader.cursor
      this.#fileBytes = reader.offset
    } finally {
      await reader.close()
    }
    await truncate(this.path, this.#fileBytes)
    this.#sealWhenFull()
  }

  /** True when nothing more will be written: readers behind the end have to live with a gap. */
  get sealed(): boolean {
    return this.#sealed
  }

  /** True when so much more output would be kept whole. */
  takes(bytes: number): boolean {
    const fileBytes = this.#fileBytes + FRAME_HEADER_BYTES + bytes
    return (
      !this.#sealed &&
      this.#accepted + bytes <= this.#limitBytes &&
      fileBytes <= this.#limitBytes * FILE_BYTES_PER_LOG_BYTE
    )
  }

  seal(): void {
    this.#sealed = true
  }

  /** Settles when the bytes are in the file. What is beyond the limit is dropped. */
  append(stream: StreamName, data: Buffer): Promise<void> {
    if (this.#sealed || data.length === 0) return this.#tail
    const kept = data.subarray(0, this.#limitBytes - this.#accepted)
    this.#accepted += kept.length
    this.#fileBytes += kept.length + FRAME_HEADER_BYTES
    this.#sealWhenFull()
    if (kept.length > 0) this.#tail = this.#tail.then(() => this.#write(stream, kept))
    return this.#tail
  }

  /** Settles when everything accepted so far is in the file. */
  flushed(): Promise<void> {
    return this.#tail
  }

  async close(): Promise<void> {
    this.seal()
    await this.#tail
    const opened = this.#file
    this.#file = null
    // One that could not be opened is the log's failure already.
    const file = await opened?.catch(() => null)
    await file?.close()
  }

  #sealWhenFull(): void {
    const fileLimit = this.#limitBytes * FILE_BYTES_PER_LOG_BYTE
    if (this.#accepted >= this.#limitBytes || this.#fileBytes >= fileLimit) this.seal()
  }

  /** A log that cannot be written (a full host) ends there; the command goes on without it. */
  async #write(stream: StreamName, data: Buffer): Promise<void> {
    if (this.failure !== null) return
    try {
      this.#file ??= this.#open()
      const file = await this.#file
      for (let at = 0; at < data.length; at += FRAME_PAYLOAD_LIMIT_BYTES) {
        const part = data.subarray(at, at + FRAME_PAYLOAD_LIMIT_BYTES)
        await writeAll(file, Buffer.from(frameHeader(FRAME[stream], part.length)), part)
        this.bytes += part.length
      }
    } catch (error) {
      this.failure = error
      this.seal()
    }
  }

  async #open(): Promise<FileHandle> {
    await makeFolder(dirname(this.path))
    return open(this.path, 'a', 0o600)
  }
}

/** The folder above it must be there: a home that was moved away does not begin anew. */
const makeFolder = async (path: string): Promise<void> => {
  try {
    await mkdir(path, { mode: 0o700 })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  }
}

/** One system call for a frame, unless the file takes only a part of it. */
const writeAll = async (file: FileHandle, header: Buffer, payload: Buffer): Promise<void> => {
  const { bytesWritten } = await file.writev([header, payload])
  const missing = header.length + payload.length - bytesWritten
  if (missing > 0) await file.appendFile(Buffer.concat([header, payload]).subarray(bytesWritten))
}

/** Reads a log from a cursor on, also one that still grows. */
export class LogReader {
  readonly #file: FileHandle
  #buffer = Buffer.alloc(0)
  #eof = false
  /** Bytes of output before the next part. */
  cursor = 0
  /** Bytes of the file before the next frame. */
  offset = 0
  readonly #from: number

  private constructor(file: FileHandle, from: number) {
    this.#file = file
    this.#from = from
  }

  /** Null when there is no log: the command printed nothing. */
  static async open(path: string, from: number): Promise<LogReader | null> {
    try {
      return new LogReader(await open(path, 'r'), from)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
      throw error
    }
  }

  /** The next part that ends at `limit` bytes of output or before; null when there is none now. */
  async next(limit: number): Promise<OutputPart | null> {
    while (this.cursor < limit) {
      const header = await this.#peek(FRAME_HEADER_BYTES)
      if (header === null) return null
      const length = header.readUInt32BE(1)
      const stream = header[0] === FRAME.stdout ? 'stdout' : header[0] === FRAME.stderr ? 'stderr' : null
      if (stream === null || length > FRAME_PAYLOAD_LIMIT_BYTES) return null
      const frame = await this.#peek(FRAME_HEADER_BYTES + length)
      if (frame === null) return null
      this.#take(frame.length)
      const start = this.cursor
      this.cursor += length
      if (this.cursor <= this.#from) continue
      const payload = frame.subarray(FRAME_HEADER_BYTES + Math.max(0, this.#from - start))
      return { stream, data: payload, cursor: this.cursor }
    }
    return null
  }

  async close(): Promise<void> {
    await this.#file.close()
  }

  async #peek(length: number): Promise<Buffer | null> {
    this.#eof = false
    while (this.#buffer.length < length && !this.#eof) {
      const chunk = Buffer.allocUnsafeSlow(Math.max(READ_BYTES, length - this.#buffer.length))
      const { bytesRead } = await this.#file.read(chunk, 0, chunk.length, this.offset + this.#buffer.length)
      if (bytesRead === 0) this.#eof = true
      else {
        const read = chunk.subarray(0, bytesRead)
        this.#buffer = this.#buffer.length === 0 ? read : Buffer.concat([this.#buffer, read])
      }
    }
    return this.#buffer.length < length ? null : this.#buffer.subarray(0, length)
  }

  #take(length: number): void {
    this.#buffer = this.#buffer.subarray(length)
    this.offset += length
  }
}
