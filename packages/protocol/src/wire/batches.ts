/** What is needed of Node's Readable. */
interface ByteStream {
  readonly readableEnded: boolean
  readonly destroyed: boolean
  readonly errored: Error | null
  isPaused(): boolean
  pause(): unknown
  resume(): unknown
  on(event: 'data', listener: (chunk: Buffer) => void): unknown
  on(event: 'end' | 'close', listener: () => void): unknown
  on(event: 'error', listener: (error: Error) => void): unknown
  off(event: 'data', listener: (chunk: Buffer) => void): unknown
  off(event: 'end' | 'close', listener: () => void): unknown
  off(event: 'error', listener: (error: Error) => void): unknown
}

/** What waits for a slow reader before the stream is held back. */
const WAITING_BYTES = 256 * 1024

const nobodyWaits = (): void => undefined

/**
 * All that arrived since the last look, chunk by chunk as it arrived. A stream's own iterator joins what waits, which copies every
 * byte of a busy stream once more, and takes a turn of the event loop for each chunk. Leaving early lets the rest go by unread.
 *
 * @throws the stream's error behind the last batch; `ERR_STREAM_PREMATURE_CLOSE` when it closed without an end
 */
export async function* batchesOf(stream: ByteStream): AsyncGenerator<readonly Buffer[], void, undefined> {
  let batch: Buffer[] = []
  let waitingBytes = 0
  let end: { readonly error: Error | null } | null = null
  let wake = nobodyWaits
  const onData = (chunk: Buffer): void => {
    batch.push(chunk)
    waitingBytes += chunk.length
    if (waitingBytes >= WAITING_BYTES) stream.pause()
    wake()
  }
  const finish = (error: Error | null): void => {
    end ??= { error }
    wake()
  }
  const onEnd = (): void => finish(null)
  const onClose = (): void => {
    if (end === null) finish(prematureClose())
  }
  stream.on('data', onData)
  stream.on('end', onEnd)
  stream.on('error', finish)
  stream.on('close', onClose)
  if (stream.readableEnded) onEnd()
  else if (stream.destroyed) finish(stream.errored ?? prematureClose())
  try {
    for (;;) {
      if (batch.length > 0) {
        const taken = batch
        batch = []
        waitingBytes = 0
        yield taken
      } else if (end !== null) {
        // Set by listeners, which the type checker does not see.
        const { error } = end as { readonly error: Error | null }
        if (error === null) return
        throw error
      } else {
        if (stream.isPaused()) stream.resume()
        await new Promise<void>((resolve) => (wake = resolve))
        wake = nobodyWaits
      }
    }
  } finally {
    stream.off('data', onData)
    stream.off('end', onEnd)
    stream.off('error', finish)
    stream.off('close', onClose)
    // Whoever left does not care how it ends.
    stream.on('error', nobodyWaits)
    stream.resume()
  }
}

const prematureClose = (): Error =>
  Object.assign(new Error('the stream closed before its end'), { code: 'ERR_STREAM_PREMATURE_CLOSE' })
