import type { CommandResult, InputOf } from '@pyro/protocol'
import { newRequestId, type CallOptions, type Client } from './client.ts'
import { attemptStream } from './stream.ts'

/** Chunks that wait for a slow reader before the stream is held back. */
const WAITING_CHUNKS = 64

export interface OutputChunk {
  readonly stream: 'stdout' | 'stderr'
  readonly bytes: Uint8Array
}

/** Keeps every character, the byte order mark at the beginning too. */
export const textDecoder = () => new TextDecoder('utf-8', { ignoreBOM: true })

export interface LogsOptions extends CallOptions {
  /** Output that is not kept any more, in bytes; called where the output misses it. */
  readonly onGap?: ((bytes: number) => void) | undefined
}

export interface LogsCall extends CallOptions {
  readonly output: (chunk: OutputChunk) => void | Promise<void>
  /** Output that is not kept any more, in bytes. */
  readonly gap?: ((bytes: number) => void) | undefined
}

/** The output of a command from a byte on; goes on at the right byte when the engine is lost. */
export const readLogs = (client: Client, input: InputOf<'workspace.logs'>, call: LogsCall): Promise<CommandResult> => {
  let cursor = input.cursor ?? 0
  const deliver = (stream: OutputChunk['stream']) => (bytes: Uint8Array) => {
    cursor += bytes.byteLength
    return call.output({ stream, bytes })
  }
  const sink = {
    stdout: deliver('stdout'),
    stderr: deliver('stderr'),
    event: (event: unknown): void => {
      const bytes = Number((event as { bytes: number }).bytes)
      cursor += bytes
      call.gap?.(bytes)
    },
  }
  const id = { operation: 'workspace.logs', requestId: newRequestId() } as const
  return client.cancellable(id, call.signal, (signal) =>
    client.reconnecting(
      async () => {
        const head = { ...id, input: { ...input, cursor } }
        return (await attemptStream(client.wire, { head, sink, signal })) as CommandResult
      },
      signal,
      () => cursor,
    ),
  )
}

/** The same as an async generator, whose return value is the command as it stands at the end. */
export async function* followOutput(
  client: Client,
  input: InputOf<'workspace.logs'>,
  options: LogsOptions,
): AsyncGenerator<OutputChunk, CommandResult, undefined> {
  const chunks: (OutputChunk | { readonly gap: number })[] = []
  const stop = new AbortController()
  const signal = options.signal === undefined ? stop.signal : AbortSignal.any([options.signal, stop.signal])
  let wake = (): void => undefined
  let room = (): void => undefined
  const output = (chunk: OutputChunk): void | Promise<void> => {
    chunks.push(chunk)
    wake()
    if (chunks.length >= WAITING_CHUNKS) return new Promise((resolve) => (room = resolve))
  }
  const gap = (bytes: number): void => {
    chunks.push({ gap: bytes })
    wake()
  }
  let ended = false
  const call = readLogs(client, input, { signal, output, gap }).finally(() => {
    ended = true
    wake()
  })
  call.catch(() => undefined)
  try {
    for (;;) {
      const chunk = chunks.shift()
      if (chunk !== undefined) {
        if ('gap' in chunk) options.onGap?.(chunk.gap)
        else yield chunk
        if (chunks.length < WAITING_CHUNKS / 2) room()
      } else if (ended) return await call
      else await new Promise<void>((resolve) => (wake = resolve))
    }
  } finally {
    stop.abort()
    room()
  }
}
