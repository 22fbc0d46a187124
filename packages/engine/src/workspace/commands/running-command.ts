import { isPyroError, PyroError, type Limits } from '@pyro/protocol'
import type { AgentClient, CommandExit, CommandOutput } from '../../agent/agent-client.ts'
import { errorFields, type Log } from '../../lib/log.ts'
import { abortable, settleLater, sleep, withDeadline } from '../../lib/wait.ts'
import type { CommandInline, CommandRow } from '../../store/commands.ts'
import type { CommandLog, OutputPart } from './command-log.ts'
import { exitCodeOf, type Interruption } from './command-result.ts'
import { HeadTail } from './head-tail.ts'
import { OutputReader, type ReadableCommand } from './output-reader.ts'

/** Between two tries to find a command again whose link went; doubled while nothing comes, up to the longest. */
const REATTACH_PAUSE_MS = 500
const LONGEST_REATTACH_PAUSE_MS = 4_000
const ATTACH_TIMEOUT_MS = 10_000
/** Without an answer of the sandbox for this long, whoever waits is told so; the search goes on. */
const LOST_MS = 10_000
/** After a restart of the engine: how long output that the log cannot keep waits for the client that was reading it. */
const READER_RETURN_MS = 15_000

/** What ended, for whoever writes it down. */
export type CommandEnd = { readonly exit: CommandExit } | { readonly interruption: Interruption }

/** A command that runs now. The engine always reads it, whoever else does; one slow caller of exec holds it back. */
export class RunningCommand implements ReadableCommand {
  readonly row: CommandRow
  readonly log: CommandLog
  readonly #agent: AgentClient
  readonly #logger: Log
  readonly #readers = new Set<OutputReader>()
  readonly #stdout: HeadTail
  readonly #stderr: HeadTail
  readonly #interrupted = settleLater<void>()
  readonly #readerCame = settleLater<void>()
  readonly #aborted = new AbortController()
  readonly #lostWaiters = new Set<(lost: PyroError) => void>()
  #interruption: Interruption | null = null
  #output: CommandOutput | null = null
  /** Of a command that another engine started: whoever was reading it there may be about to come. */
  #readerMayCome = false
  cursor = 0
  finished = false

  constructor(options: {
    readonly row: CommandRow
    readonly log: CommandLog
    readonly agent: AgentClient
    readonly limits: Pick<Limits, 'inlineHeadBytes' | 'inlineTailBytes'>
    readonly logger: Log
  }) {
    this.row = options.row
    this.log = options.log
    this.#agent = options.agent
    this.#logger = options.logger
    const limits = { headBytes: options.limits.inlineHeadBytes, tailBytes: options.limits.inlineTailBytes }
    this.#stdout = new HeadTail(limits)
    this.#stderr = new HeadTail(limits)
  }

  get stdoutBytes(): number {
    return this.#stdout.bytes
  }

  get stderrBytes(): number {
    return this.#stderr.bytes
  }

  inline(): CommandInline {
    return {
      stdoutHead: this.#stdout.head(),
      stdoutTail: this.#stdout.tail(),
      stderrHead: this.#stderr.head(),
      stderrTail: this.#stderr.tail(),
    }
  }

  /** What a former engine has already written down. */
  remember(part: OutputPart): void {
    this.cursor = part.cursor
    this.#collect(part)
  }

  /** `holding`: the command waits for this reader. */
  read(cursor: number, holding: boolean): OutputReader {
    const reader = new OutputReader(this, { cursor, holding })
    this.#readers.add(reader)
    this.#readerCame.resolve()
    return reader
  }

  leave(reader: OutputReader): void {
    this.#readers.delete(reader)
  }

  /** Like `promise`, but rejects with `sandbox.unreachable` when the sandbox does not answer, and has not for long. */
  async unlessLost<T>(promise: Promise<T>): Promise<T> {
    const lost = Promise.withResolvers<never>()
    this.#lostWaiters.add(lost.reject)
    try {
      return await Promise.race([promise, lost.promise])
    } finally {
      this.#lostWaiters.delete(lost.reject)
    }
  }

  /** Ends the command for everybody who looks at it; whoever calls this ends its processes. */
  interrupt(interruption: Interruption): void {
    this.#interruption ??= interruption
    this.#interrupted.resolve()
    this.#aborted.abort()
    this.#output?.detach()
  }

  /** Lets go: the command lives on for a later engine. */
  release(): void {
    this.#aborted.abort()
    this.#output?.detach()
  }

  /** Readers get their end. */
  async finish(): Promise<void> {
    await this.log.close()
    this.finished = true
    for (const reader of this.#readers) reader.wake()
  }

  /** Reads until the command ends; `output` is null for one that must be found again. Null: this engine lets go of it. */
  async consume(output: CommandOutput | null): Promise<CommandEnd | null> {
    this.#readerMayCome = output === null
    const end = await Promise.race([this.#readToEnd(output), this.#interrupted.promise])
    return this.#interruption === null ? (end ?? null) : { interruption: this.#interruption }
  }

  /** A message of ours in place of output, for a command that could not start. */
  note(text: string): void {
    const data = Buffer.from(text)
    this.cursor += data.length
    void this.#deliver({ stream: 'stderr', data, cursor: this.cursor })
  }

  async #readToEnd(first: CommandOutput | null): Promise<CommandEnd | null> {
    let output = first
    let lost = { cursor: -1, pauseMs: REATTACH_PAUSE_MS }
    let seenAt = performance.now()
    for (;;) {
      try {
        output ??= await this.#reattach()
        this.#output = output
        if (this.#aborted.signal.aborted) {
          output.detach()
          return null
        }
        this.#catchUpWith(output.cursor)
        for await (const part of output) {
          if (!this.log.takes(part.data.length)) {
            const behind = this.#readersBehind()
            if (behind !== null) await behind
          }
          this.cursor = part.cursor
          const held = this.#deliver(part)
          if (held !== null) await held
        }
        return { exit: await abortable(output.exit, this.#aborted.signal) }
      } catch (error) {
        if (this.#aborted.signal.aborted) return null
        if (isPyroError(error) && error.code === 'command.not-found') {
          return { interruption: { by: 'the sandbox no longer knows the command', limit: null } }
        }
        this.#logger.warn({ command: this.row.id, ...errorFields(error) }, 'command output was lost sight of')
        if (output !== null) seenAt = performance.now()
        output = null
        if (performance.now() - seenAt > LOST_MS) this.#lose(error)
        const again = lost.cursor === this.cursor
        const pauseMs = again ? Math.min(2 * lost.pauseMs, LONGEST_REATTACH_PAUSE_MS) : REATTACH_PAUSE_MS
        lost = { cursor: this.cursor, pauseMs }
        await pause(pauseMs, this.#aborted.signal)
        if (this.#aborted.signal.aborted) return null
      }
    }
  }

  #lose(cause: unknown): void {
    const lost = new PyroError(
      'sandbox.unreachable',
      `the sandbox of ${this.row.id} does not answer; the command may still run`,
      {
        hint: `pyro workspace command wait WS ${this.row.id}, or pyro workspace reset WS`,
        data: { commandId: this.row.id },
        cause,
      },
    )
    for (const tell of this.#lostWaiters) tell(lost)
    for (const reader of this.#readers) reader.lose(lost)
  }

  async #reattach(): Promise<CommandOutput> {
    // The log is complete up to here, so nobody needs what is before. Beyond it only the reader itself knows what it has.
    if (this.log.sealed && this.#output === null) {
      await this.#readerReturned()
      const cursors = [...this.#readers].map(({ cursor }) => cursor)
      if (cursors.length > 0) this.cursor = Math.max(this.cursor, Math.min(...cursors))
    }
    return this.#agent.attach(this.row.id, this.cursor, {
      timeoutMs: ATTACH_TIMEOUT_MS,
      signal: this.#aborted.signal,
    })
  }

  /** The log cannot keep what comes now: whoever holds the command back gets it live, or loses it. */
  #readersBehind(): Promise<unknown> | null {
    if (this.#readerMayCome) return this.#readerReturned().then(() => this.#readersBehind())
    const behind: Promise<void>[] = []
    for (const reader of this.#readers) {
      const caughtUp = reader.behind()
      if (caughtUp !== null) behind.push(caughtUp)
    }
    return behind.length === 0 ? null : abortable(Promise.all(behind), this.#aborted.signal)
  }

  /** Waits once, bounded. */
  async #readerReturned(): Promise<void> {
    if (!this.#readerMayCome) return
    this.#readerMayCome = false
    const came = withDeadline(this.#readerCame.promise, READER_RETURN_MS, () => new Error('late')).catch(ignoreLate)
    await abortable(came, this.#aborted.signal)
  }

  /** The agent no longer keeps what is between our cursor and its own. */
  #catchUpWith(cursor: number): void {
    if (cursor <= this.cursor) return
    this.log.seal()
    this.cursor = cursor
  }

  #deliver(part: OutputPart): Promise<void> | null {
    this.#collect(part)
    const waits: Promise<void>[] = []
    for (const reader of this.#readers) {
      const held = reader.offer(part)
      if (held !== null) waits.push(held)
    }
    if (!this.log.sealed) waits.push(this.log.append(part.stream, part.data))
    if (waits.length === 0) return null
    return waits.length === 1 ? (waits[0] ?? null) : Promise.all(waits).then(() => undefined)
  }

  #collect(part: OutputPart): void {
    if (part.stream === 'stdout') this.#stdout.push(part.data)
    else this.#stderr.push(part.data)
  }
}

const ignoreLate = (error: unknown): void => {
  if (!(error instanceof Error) || error.message !== 'late') throw error
}

const pause = async (durationMs: number, signal: AbortSignal): Promise<void> => {
  try {
    await sleep(durationMs, signal)
  } catch (error) {
    if (!signal.aborted) throw error
  }
}

/** What the end of a command says, written into its row. */
export const endedRow = (command: RunningCommand, end: CommandEnd, limit: CommandRow['limit']): CommandRow => {
  const { row } = command
  const streams = { stdoutBytes: command.stdoutBytes, stderrBytes: command.stderrBytes, logBytes: command.log.bytes }
  if ('interruption' in end) {
    return {
      ...row,
      ...streams,
      state: 'interrupted',
      endedAt: Date.now(),
      interruptedBy: end.interruption.by,
      limit: end.interruption.limit ?? limit,
    }
  }
  const { exit } = end
  return {
    ...row,
    ...streams,
    stdoutBytes: Math.max(streams.stdoutBytes, exit.stdoutBytes),
    stderrBytes: Math.max(streams.stderrBytes, exit.stderrBytes),
    state: 'exited',
    endedAt: row.startedAt + exit.durationMs,
    exitCode: exitCodeOf(exit),
    signal: exit.signal,
    timedOut: exit.timedOut,
    limit,
  }
}
