import { createHash } from 'node:crypto'
import { createReadStream, createWriteStream } from 'node:fs'
import { open, rename, stat } from 'node:fs/promises'
import { PassThrough, Transform, type Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { constants, createGunzip, createZstdCompress, createZstdDecompress } from 'node:zlib'
import { PyroError } from '@pyro/protocol'
import { errnoOf } from '../process/identity.ts'

const CHUNK_BYTES = 1024 * 1024
/** Of the first bytes of an upload, to tell how it is compressed. */
const MAGIC_BYTES = 4
const ZSTD_LEVEL = 3
/** What a tar may have on top of its content: headers and padding of each entry. */
const TAR_OVERHEAD_BYTES_PER_ENTRY = 2048

export interface PlainArchive {
  /** SHA-256 of the uncompressed tar, hex. */
  readonly digestHex: string
  readonly bytes: number
}

export interface SpoolOptions {
  readonly limits: { readonly entries: number; readonly bytes: number }
  readonly signal?: AbortSignal
  readonly onProgress?: (bytes: number) => void
}

/**
 * Writes an upload, uncompressed, to a file of ours. Fails with `archive.too-large` as soon as it is beyond what an archive within
 * the limits can be, and with `archive.truncated` when its compression ends early.
 */
export const spoolArchive = async (source: Readable, path: string, options: SpoolOptions): Promise<PlainArchive> => {
  const limitBytes = options.limits.bytes + options.limits.entries * TAR_OVERHEAD_BYTES_PER_ENTRY
  const meter = new Meter(limitBytes, options.onProgress)
  try {
    const chunks = source.iterator({ destroyOnReturn: false })
    const head = await readHead(chunks)
    const joined = async function* (): AsyncGenerator<Buffer> {
      yield head
      for await (const chunk of { [Symbol.asyncIterator]: () => chunks }) yield chunk as Buffer
    }
    const output = createWriteStream(path, { flags: 'wx', mode: 0o600, highWaterMark: CHUNK_BYTES })
    await pipeline(joined, decompressor(head), meter, output, {
      signal: options.signal ?? new AbortController().signal,
    })
  } catch (error) {
    options.signal?.throwIfAborted()
    throw typedArchiveError(error)
  }
  return meter.result()
}

/** Compresses a plain archive into a file beside which it can then go. */
export const compressArchive = async (
  from: string,
  to: string,
  signal?: AbortSignal,
): Promise<PlainArchive & { readonly compressedBytes: number }> => {
  const meter = new Meter(Number.POSITIVE_INFINITY)
  await pipeline(
    createReadStream(from, { highWaterMark: CHUNK_BYTES }),
    meter,
    createZstdCompress({
      params: { [constants.ZSTD_c_compressionLevel]: ZSTD_LEVEL, [constants.ZSTD_c_checksumFlag]: 1 },
    }),
    createWriteStream(to, { flags: 'wx', mode: 0o600, flush: true }),
    { signal: signal ?? new AbortController().signal },
  )
  return { ...meter.result(), compressedBytes: (await stat(to)).size }
}

/** Restores a compressed archive; fails when it is not the one with this digest. */
export const expandArchive = async (
  from: string,
  to: string,
  digestHex: string,
  signal?: AbortSignal,
): Promise<PlainArchive> => {
  const meter = new Meter(Number.POSITIVE_INFINITY)
  await pipeline(
    createReadStream(from, { highWaterMark: CHUNK_BYTES }),
    createZstdDecompress(),
    meter,
    createWriteStream(to, { flags: 'wx', mode: 0o600 }),
    { signal: signal ?? new AbortController().signal },
  )
  const result = meter.result()
  if (result.digestHex !== digestHex)
    throw new PyroError('environment.invalid', `the archive ${from} is damaged: its digest is ${result.digestHex}`)
  return result
}

/** Moves a file to where it stays; its size in bytes. */
export const takeOverFile = async (from: string, to: string): Promise<number> => {
  const file = await open(from, 'r')
  try {
    await file.sync()
    await rename(from, to)
    return (await file.stat()).size
  } finally {
    await file.close()
  }
}

export const sha256Hex = (text: string): string => createHash('sha256').update(text).digest('hex')

/** Counts and hashes what passes. */
class Meter extends Transform {
  readonly #hash = createHash('sha256')
  readonly #limitBytes: number
  readonly #onProgress: ((bytes: number) => void) | undefined
  #bytes = 0

  constructor(limitBytes: number, onProgress?: (bytes: number) => void) {
    super({ highWaterMark: CHUNK_BYTES })
    this.#limitBytes = limitBytes
    this.#onProgress = onProgress
  }

  result(): PlainArchive {
    return { digestHex: this.#hash.digest('hex'), bytes: this.#bytes }
  }

  override _transform(
    chunk: Buffer,
    _encoding: BufferEncoding,
    done: (error: Error | null, data?: Buffer) => void,
  ): void {
    this.#bytes += chunk.length
    if (this.#bytes > this.#limitBytes) {
      done(
        new PyroError(
          'archive.too-large',
          `the archive is larger than ${this.#limitBytes} bytes; nothing was installed`,
          { hint: 'import less; docs/public-contract.md lists the limits' },
        ),
      )
      return
    }
    this.#hash.update(chunk)
    this.#onProgress?.(this.#bytes)
    done(null, chunk)
  }
}

const readHead = async (chunks: AsyncIterator<unknown>): Promise<Buffer> => {
  let head = Buffer.alloc(0)
  while (head.length < MAGIC_BYTES) {
    const next = await chunks.next()
    if (next.done === true) break
    head = Buffer.concat([head, next.value as Buffer])
  }
  if (head.length === 0) throw new PyroError('archive.truncated', 'the archive is empty; nothing was installed')
  return head
}

const decompressor = (head: Buffer): Transform => {
  if (head[0] === 0x1f && head[1] === 0x8b) return createGunzip()
  if (head.length >= MAGIC_BYTES && head.readUInt32LE(0) === 0xfd2fb528) return createZstdDecompress()
  return new PassThrough({ highWaterMark: CHUNK_BYTES })
}

const typedArchiveError = (error: unknown): unknown => {
  const code = errnoOf(error)
  if (code === 'Z_BUF_ERROR')
    return new PyroError('archive.truncated', 'the archive ends early; nothing was installed', { cause: error })
  if (code?.startsWith('Z_') === true || code?.startsWith('ZSTD_') === true)
    return new PyroError(
      'archive.truncated',
      'the archive is damaged: it cannot be uncompressed; nothing was installed',
      { cause: error },
    )
  return error
}

/** A file of ours that the host has no space for. */
export const typedHostError = (error: unknown): unknown =>
  errnoOf(error) === 'ENOSPC' || errnoOf(error) === 'EDQUOT' ? noSpace(error) : error

export const noSpace = (cause?: unknown): PyroError =>
  new PyroError('disk.full', 'no space on the host for the environment; nothing was installed', {
    hint: 'free space on the host, or run: pyro env prune',
    cause,
  })
