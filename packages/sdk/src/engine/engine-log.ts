import { closeSync, fstatSync, mkdirSync, openSync, readSync, unlinkSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { PyroError } from '@pyro/protocol/client'

/** Of one start, the newest. */
const SAID_BYTES = 64 * 1024
const NEWLINE = 0x0a

/** The file that a started engine says everything to, and what of it one start has said. */
export class EngineLog {
  readonly file: number
  readonly #home: string
  readonly #start: number

  private constructor(home: string, file: number) {
    this.#home = home
    this.file = file
    this.#beginLine()
    this.#start = fstatSync(file).size
  }

  /** @throws PyroError `path.unwritable`, `disk.full` */
  static open(home: string): EngineLog {
    const folder = join(home, 'logs')
    try {
      mkdirSync(home, { recursive: true, mode: 0o700 })
      mkdirSync(folder, { recursive: true, mode: 0o700 })
      return new EngineLog(home, openSync(join(folder, 'engine.log'), 'a+', 0o600))
    } catch (error) {
      throw homeFailure(home, error)
    }
  }

  said(): string {
    const { size } = fstatSync(this.file)
    const from = Math.max(this.#start, size - SAID_BYTES)
    const buffer = Buffer.alloc(Math.max(0, size - from))
    return buffer.subarray(0, readSync(this.file, buffer, 0, buffer.length, from)).toString()
  }

  /**
   * Why an engine could not say all here; null when it could. Tried with a file without a name: the log's last block may have
   * room for the begin of a line.
   */
  refusal(): PyroError | null {
    const path = join(this.#home, 'logs', '.trial')
    let file: number | null = null
    try {
      file = openSync(path, 'w', 0o600)
      unlinkSync(path)
      writeFileSync(file, Buffer.alloc(SAID_BYTES))
      return null
    } catch (error) {
      return homeFailure(this.#home, error)
    } finally {
      if (file !== null) closeSync(file)
    }
  }

  close(): void {
    closeSync(this.file)
  }

  /** A full disk may have cut the last line of a former engine; while it is full, an engine may start all the same. */
  #beginLine(): void {
    const { size } = fstatSync(this.file)
    const last = Buffer.alloc(1, NEWLINE)
    if (size > 0) readSync(this.file, last, 0, 1, size - 1)
    if (last[0] === NEWLINE) return
    try {
      writeSync(this.file, '\n')
    } catch (error) {
      if (!isFull(error)) throw error
    }
  }
}

const isFull = (error: unknown): boolean => ['ENOSPC', 'EDQUOT'].includes((error as NodeJS.ErrnoException).code ?? '')

/** A home that no engine can keep its log in. */
const homeFailure = (home: string, cause: unknown): PyroError => {
  const { code = String(cause) } = cause as NodeJS.ErrnoException
  const options = { data: { path: home, errno: code }, cause }
  if (isFull(cause)) {
    return new PyroError('disk.full', `no space left on this host for the home ${home}; no engine was started`, {
      ...options,
      hint: 'free space on the host, or use another PYRO_HOME',
    })
  }
  const isReadOnly = code === 'EROFS'
  const why = isReadOnly ? 'its filesystem is read-only' : code
  const remedy = isReadOnly
    ? 'mount it for writing again (mount -o remount,rw)'
    : 'make it a folder that root can write'
  return new PyroError('path.unwritable', `the home ${home} cannot be written: ${why}; no engine was started`, {
    ...options,
    hint: `${remedy}, or use another PYRO_HOME`,
  })
}
