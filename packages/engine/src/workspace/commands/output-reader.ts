import type { PyroError } from '@pyro/protocol'
import { LogReader, type CommandLog, type OutputPart } from './command-log.ts'

/** Bytes that wait for one reader. A caller of exec beyond it holds the command back; another reader falls back to the log. */
const QUEUE_BYTES = 1024 * 1024

export interface Gap {
  readonly gapBytes: number
}

/** What a reader needs of the command it reads. */
export interface ReadableCommand {
  readonly log: CommandLog
  /** Bytes of output so far. */
  readonly cursor: number
  readonly finished: boolean
  leave(reader: OutputReader): void
}

export const isGap = (item: OutputPart | Gap): item is Gap => 'gapBytes' in item

/**
 * One reader of a running command. It begins in the log and joins the live output when it has caught up; it falls back to the log
 * when it is too slow, unless it holds the command back.
 */
export class OutputReader {
  readonly #command: ReadableCommand
  /** True: the command waits for this reader. */
  readonly #holding: boolean
  #cursor: number
  #live = false
  #queue: OutputPart[] = []
  #queueBytes = 0
  #logReader: LogReader | null = null
  #closed = false
  #lost: PyroError | null = null
  #wake: (() => void) | null = null
  #caughtUp: (() => void) | null = null
  #drained: (() => void) | null = null

  constructor(command: ReadableCommand, options: { readonly cursor: number; readonly holding: boolean }) {
    this.#command = command
    this.#cursor = options.cursor
    this.#holding = options.holding
    this.#live = options.cursor === command.cursor
  }

  get cursor(): number {
    return this.#cursor
  }

  /** Null, or settles when this reader has read all that is in the log: what the log cannot keep must not come before. */
  behind(): Promise<void> | null {
    if (!this.#holding || this.#live || this.#closed) return null
    return new Promise((resolve) => (this.#caughtUp = resolve))
  }

  /** Called by the command for every part. A promise means: wait for me. */
  offer(part: OutputPart): Promise<void> | null {
    this.#lost = null
    if (!this.#live || this.#closed) return null
    this.#queue.push(part)
    this.#queueBytes += part.data.length
    this.wake()
    if (this.#queueBytes <= QUEUE_BYTES) return null
    if (this.#holding) return new Promise((resolve) => (this.#drained = resolve))
    this.#queue = []
    this.#queueBytes = 0
    this.#live = false
    return null
  }

  /** Nothing more is known of the command: its sandbox has not answered for long. */
  lose(why: PyroError): void {
    this.#lost = why
    this.wake()
  }

  wake(): void {
    this.#wake?.()
    this.#wake = null
  }

  /**
   * The next part, a gap where output is not kept any more, or null at the end.
   *
   * @throws PyroError `sandbox.unreachable` behind all that is known of a command whose sandbox does not answer
   */
  async next(): Promise<OutputPart | Gap | null> {
    while (!this.#closed) {
      const queued = this.#shift()
      if (queued !== null) return queued
      if (this.#queue.length > 0) continue
      const item = this.#live ? null : await this.#catchUp()
      if (item !== null) return item
      if (!this.#live || this.#queue.length > 0) continue
      if (this.#command.finished) return null
      if (this.#lost !== null) throw this.#lost
      await new Promise<void>((resolve) => (this.#wake = resolve))
    }
    return null
  }

  /** The command no longer waits for this reader. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#command.leave(this)
    this.#drained?.()
    this.#caughtUp?.()
    this.wake()
    await this.#logReader?.close()
  }

  #shift(): OutputPart | null {
    const part = this.#queue.shift()
    if (part === undefined) return null
    this.#queueBytes -= part.data.length
    if (this.#queueBytes <= QUEUE_BYTES / 2) {
      this.#drained?.()
      this.#drained = null
    }
    return this.#behindCursor(part)
  }

  /** A reader that was ahead of us (it read from a former engine) gets only what it does not have. */
  #behindCursor(part: OutputPart): OutputPart | null {
    const missing = part.cursor - this.#cursor
    if (missing <= 0) return null
    this.#cursor = part.cursor
    return missing < part.data.length ? { ...part, data: part.data.subarray(part.data.length - missing) } : part
  }

  async #catchUp(): Promise<OutputPart | Gap | null> {
    const { log } = this.#command
    if (this.#cursor < log.bytes) {
      this.#logReader ??= await LogReader.open(log.path, this.#cursor)
      const end = log.bytes
      const part = (await this.#logReader?.next(end)) ?? null
      if (part !== null) return this.#behindCursor(part)
      // What was written cannot be read back: the file was damaged or removed.
      return this.#skipTo(end)
    }
    await log.flushed()
    if (this.#cursor < log.bytes) return null
    if (this.#cursor >= this.#command.cursor) {
      this.#join()
      return null
    }
    if (!log.sealed) return null
    this.#join()
    return this.#skipTo(this.#command.cursor)
  }

  #join(): void {
    this.#live = true
    this.#caughtUp?.()
  }

  #skipTo(cursor: number): Gap {
    const gapBytes = cursor - this.#cursor
    this.#cursor = cursor
    return { gapBytes }
  }
}
