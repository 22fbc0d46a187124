import type { Writable } from 'node:stream'
import {
  encodeJsonFrame,
  FRAME,
  FrameDecoder,
  FrameError,
  frameHeader,
  PyroError,
  type ErrorCode,
} from '@pyro/protocol'
import { agentError, type AgentErrorKind } from '@pyro/protocol/guest'
import type { z } from 'zod'
import type { RoleRun } from '../agent/agent-client.ts'

/** A role that neither writes nor reads for this long, while nobody keeps it waiting, is killed. */
const IDLE_TIMEOUT_MS = 5 * 60_000
const DATA_FRAME_BYTES = 1024 * 1024
/** Largest `data.entry` and the like of an error that is handed on. */
const ERROR_DATA_BYTES = 256 * 1024

const ERROR_CODES: Readonly<Record<AgentErrorKind, ErrorCode>> = {
  invalid: 'input.invalid',
  exists: 'path.exists',
  'not-found': 'path.not-found',
  'not-a-file': 'path.not-a-file',
  'outside-root': 'path.outside-root',
  'text-mismatch': 'internal',
  limit: 'limit.exceeded',
  'no-space': 'disk.full',
  'unsafe-entry': 'archive.unsafe-entry',
  'too-large': 'archive.too-large',
  truncated: 'archive.truncated',
  failed: 'internal',
}

export interface OneShot<Result extends z.ZodType> {
  readonly role: string
  /** Writes the frames that it reads; null when it reads a file. */
  readonly feed: ((input: FrameWriter) => Promise<void>) | null
  /** Called when the role ended, whether or not it was fed to the end. */
  readonly abandon?: () => void
  readonly result: Result
  readonly onEvent?: (event: unknown) => void
  readonly onData?: (chunk: Uint8Array) => void | Promise<void>
  /** Codes that mean something else for this role. */
  readonly errorCodes?: Partial<Record<AgentErrorKind, ErrorCode>>
  readonly signal?: AbortSignal | undefined
}

/** Writes frames with back-pressure. */
export class FrameWriter {
  readonly #stream: Writable
  readonly #idle: IdleTimer

  #room: (() => void) | null = null

  constructor(stream: Writable, idle: IdleTimer) {
    this.#stream = stream
    this.#idle = idle
    const settle = (): void => {
      this.#room?.()
      this.#room = null
    }
    stream.on('drain', settle).on('close', settle)
  }

  input(value: unknown): Promise<void> {
    return this.#write([encodeJsonFrame(FRAME.input, value)])
  }

  data(chunks: readonly Uint8Array[]): Promise<void> {
    const frames: Uint8Array[] = []
    for (const chunk of chunks) {
      for (let at = 0; at < chunk.byteLength; at += DATA_FRAME_BYTES) {
        const payload = chunk.subarray(at, at + DATA_FRAME_BYTES)
        frames.push(frameHeader(FRAME.data, payload.byteLength), payload)
      }
    }
    return this.#write(frames)
  }

  endOfData(): Promise<void> {
    return this.#write([frameHeader(FRAME.data, 0)])
  }

  /** The time a client takes to send is not the role's. */
  waitForClient<T>(action: () => Promise<T>): Promise<T> {
    return this.#idle.paused(action)
  }

  /** In one system call, if the role reads fast enough. */
  async #write(pieces: readonly Uint8Array[]): Promise<void> {
    this.#idle.touch()
    if (this.#stream.destroyed) return
    this.#stream.cork()
    for (const piece of pieces) this.#stream.write(piece)
    this.#stream.uncork()
    if (this.#stream.writableNeedDrain) await new Promise<void>((resolve) => (this.#room = resolve))
  }
}

/**
 * Reads one role of the agent binary to its end. What it prints is read as if a guest had written it: every frame is bounded, every
 * message checked. It ends with the call, whatever happens.
 */
export const runOneShot = async <Result extends z.ZodType>(
  run: RoleRun,
  shot: OneShot<Result>,
): Promise<z.infer<Result>> => {
  const idle = new IdleTimer(() => run.kill())
  const answer: { result?: unknown; error?: PyroError; unfed?: Error } = {}
  const fed = feed(shot, run.stdin, idle).catch((error: unknown) => {
    answer.unfed = error instanceof Error ? error : new Error(String(error))
    run.kill()
  })
  try {
    const decoder = new FrameDecoder()
    for await (const batch of run.output) {
      idle.touch()
      for (const frame of batch.flatMap((chunk) => [...decoder.push(chunk)])) {
        if (answer.result !== undefined || answer.error !== undefined)
          throw new FrameError('a frame after the last one')
        if (frame.type === FRAME.data) {
          const held = shot.onData?.(frame.payload)
          if (held instanceof Promise) await idle.paused(() => held)
        } else if (frame.type === FRAME.event) shot.onEvent?.(jsonOf(frame.payload))
        else if (frame.type === FRAME.result) answer.result = shot.result.parse(jsonOf(frame.payload))
        else if (frame.type === FRAME.error) answer.error = errorOf(shot, jsonOf(frame.payload))
        else throw new FrameError(`unexpected frame of type ${frame.type}`)
      }
    }
  } catch (error) {
    shot.signal?.throwIfAborted()
    if (answer.unfed !== undefined) throw answer.unfed
    if (!idle.isLate) throw error
  } finally {
    idle.end()
    run.kill()
    run.stdin?.destroy()
    shot.abandon?.()
  }
  const end = await run.ended
  await fed
  shot.signal?.throwIfAborted()
  if (answer.error !== undefined) throw answer.error
  if (answer.result !== undefined) return answer.result as z.infer<Result>
  if (answer.unfed !== undefined) throw answer.unfed
  const why = idle.isLate ? `did nothing for ${IDLE_TIMEOUT_MS / 1000} s` : `died (${end.how})`
  throw new PyroError('internal', `the ${shot.role} process ${why}`, { data: { stderr: end.stderrTail } })
}

const feed = async (shot: OneShot<z.ZodType>, stdin: Writable | null, idle: IdleTimer): Promise<void> => {
  if (stdin === null || shot.feed === null) return
  await shot.feed(new FrameWriter(stdin, idle))
  stdin.end()
}

const jsonOf = (payload: Uint8Array): unknown => JSON.parse(new TextDecoder().decode(payload))

const errorOf = (shot: OneShot<z.ZodType>, message: unknown): PyroError => {
  const { kind, message: text, data } = agentError.parse(message)
  const isSmall = data === undefined || JSON.stringify(data).length <= ERROR_DATA_BYTES
  return new PyroError(shot.errorCodes?.[kind] ?? ERROR_CODES[kind], text, { data: isSmall ? data : undefined })
}

/** Fires once when nothing happened for the whole time-out; stands still while somebody else keeps the role waiting. */
class IdleTimer {
  readonly #onLate: () => void
  #timer: NodeJS.Timeout
  #pauses = 0
  isLate = false

  constructor(onLate: () => void) {
    this.#onLate = onLate
    this.#timer = this.#arm()
  }

  touch(): void {
    this.#timer.refresh()
  }

  async paused<T>(action: () => Promise<T>): Promise<T> {
    this.#pauses++
    try {
      return await action()
    } finally {
      this.#pauses--
      this.touch()
    }
  }

  end(): void {
    clearTimeout(this.#timer)
  }

  #arm(): NodeJS.Timeout {
    return setTimeout(() => {
      if (this.#pauses > 0) {
        this.#timer = this.#arm()
        return
      }
      this.isLate = true
      this.#onLate()
    }, IDLE_TIMEOUT_MS)
  }
}
