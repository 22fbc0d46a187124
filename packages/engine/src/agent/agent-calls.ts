import type { Readable, Writable } from 'node:stream'
import type { PyroError } from '@pyro/protocol'
import { FRAME, encodeJsonFrame, frameHeader, isPyroError } from '@pyro/protocol'
import {
  agentStatus,
  attachCommand,
  clockReading,
  commandListing,
  extractInput,
  extractResult,
  guestProgress,
  readFileResult,
  releaseCommands,
  clockSet,
  setClock,
  thawed,
  writeFileResult,
  type readFile,
  type signalCommand,
  type StartCommand,
  type writeFile,
} from '@pyro/protocol/guest'
import { z } from 'zod'
import type { AgentClient, CallOptions, CommandOutput, RoleRun } from './agent-client.ts'
import type { Subject } from './agent-errors.ts'
import { Call, type CallLimits } from './call.ts'
import { OutputReader } from './command-output.ts'
import type { LinkSession } from './link-session.ts'
import { Releases } from './releases.ts'
import { StdinWriter } from './stdin-writer.ts'
import type { GuestClock } from './guest-clock.ts'

const DEFAULT_TIMEOUT_MS = 10_000
/** Until there is a link at all. */
const LINK_TIMEOUT_MS = 10_000
/** An extract may move many files at its end without a word. */
const EXTRACT_SILENCE_MS = 60_000
/** To find all processes of a tree takes its time where all processes are used up. */
const SIGNAL_TIMEOUT_MS = 30_000
const SMALL_ANSWER_BYTES = 64 * 1024
const LISTING_BYTES = 32 * 1024 * 1024
/** The 16 MiB that one read may return, as base64, and its fields. */
const FILE_ANSWER_BYTES = 24 * 1024 * 1024
/** Beyond graceMs, for the flush. */
const SHUTDOWN_EXTRA_MS = 10_000
const empty = z.strictObject({})

/** Where calls get their session: the one that is up, or the next one within the time. */
export interface Sessions {
  readonly bootId: string
  readonly connected: boolean
  readonly downSince: number | null
  readonly other: PyroError | null
  /** Null where it is the host's. */
  readonly clock: GuestClock | null
  session(options: { readonly signal?: AbortSignal | undefined; readonly timeoutMs: number }): Promise<LinkSession>
}

/** The agent's requests, over whatever session is up. */
export class AgentCalls implements AgentClient {
  readonly #sessions: Sessions
  readonly #releases = new Releases(async (ids) => {
    await this.#unary('/v1/release', releaseCommands.parse({ ids }), empty, 'command')
  })

  constructor(sessions: Sessions) {
    this.#sessions = sessions
  }

  get bootId(): string {
    return this.#sessions.bootId
  }

  get connected(): boolean {
    return this.#sessions.connected
  }

  get other(): PyroError | null {
    return this.#sessions.other
  }

  get downSince(): number | null {
    return this.#sessions.downSince
  }

  status(options?: CallOptions): Promise<z.infer<typeof agentStatus>> {
    return this.#unary('/v1/status', {}, agentStatus, 'command', options)
  }

  /** A link that breaks before the first word is followed up: the command runs once, started by whichever try arrived. */
  async start(id: string, command: StartCommand, options?: CallOptions): Promise<CommandOutput> {
    const until = performance.now() + (options?.timeoutMs ?? DEFAULT_TIMEOUT_MS)
    const left = (): CallOptions => ({ ...options, timeoutMs: Math.max(1, Math.round(until - performance.now())) })
    try {
      return await this.#startOnce(id, command, left())
    } catch (error) {
      if (!isCode(error, 'sandbox.unreachable') || performance.now() >= until) throw error
    }
    try {
      return await this.attach(id, 0, left())
    } catch (error) {
      if (!isCode(error, 'command.not-found')) throw error
      return this.#startOnce(id, command, left())
    }
  }

  attach(id: string, cursor: number, options?: CallOptions): Promise<CommandOutput> {
    return this.#open(`/v1/commands/${id}/attach`, attachCommand.parse({ cursor }), options)
  }

  stdin(id: string): Writable {
    return new StdinWriter(async () => {
      const session = await this.#sessions.session({ timeoutMs: DEFAULT_TIMEOUT_MS })
      return new Call(session, `/v1/commands/${id}/stdin`, { timeoutMs: null, subject: 'command', onAbort: 'end' })
    })
  }

  async signal(id: string, request: z.infer<typeof signalCommand>, options?: CallOptions): Promise<void> {
    const limits = { timeoutMs: SIGNAL_TIMEOUT_MS, ...options }
    await this.#unary(`/v1/commands/${id}/signal`, request, empty, 'command', limits)
  }

  release(id: string, outputBytes: number): Promise<void> {
    return this.#releases.add(id, outputBytes)
  }

  async commands(options?: CallOptions): Promise<z.infer<typeof commandListing>['commands']> {
    return (await this.#unary('/v1/commands', {}, commandListing, 'command', options, LISTING_BYTES)).commands
  }

  readFile(request: z.infer<typeof readFile>, options?: CallOptions): Promise<z.infer<typeof readFileResult>> {
    return this.#unary('/v1/files/read', request, readFileResult, 'file', options, FILE_ANSWER_BYTES)
  }

  /** Once it is sent, an abort comes too late. */
  async writeFile(request: z.infer<typeof writeFile>, options?: CallOptions): Promise<z.infer<typeof writeFileResult>> {
    const call = await this.#call('/v1/files/write', 'file', options)
    call.commit()
    return answerOf(call, request, writeFileResult)
  }

  /** Once the whole archive is sent, an abort comes too late; before, nothing was written, and nothing is left of the attempt. */
  async extract(
    request: z.infer<typeof extractInput>,
    archive: Readable,
    options?: CallOptions & { readonly onProgress?: (progress: { files: number; bytes: number }) => void },
  ): Promise<z.infer<typeof extractResult>> {
    const limits = { timeoutMs: EXTRACT_SILENCE_MS, ...options }
    const call = await this.#call('/v1/files/extract', 'archive', limits, 'break-off')
    const upload = sendArchive(call, extractInput.parse(request), archive).catch((error: unknown) =>
      call.breakOff(error),
    )
    try {
      await call.answered()
      for await (const frame of call.frames()) {
        call.touch()
        if (frame.type === FRAME.event) {
          const progress = call.parseJson(frame.payload, guestProgress)
          options?.onProgress?.(progress)
        } else if (frame.type === FRAME.result) return call.parseJson(frame.payload, extractResult)
        else throw call.unexpected(frame)
      }
      throw call.session.fail('an extract ended without a result')
    } finally {
      call.end(null)
      archive.destroy()
      await upload
    }
  }

  async flush(options?: CallOptions): Promise<void> {
    await this.#unary('/v1/flush', {}, empty, 'command', options)
  }

  async freeze(options?: CallOptions): Promise<void> {
    await this.#unary('/v1/freeze', {}, empty, 'command', options)
  }

  async thaw(options?: CallOptions): Promise<boolean> {
    return (await this.#unary('/v1/thaw', {}, thawed, 'command', options)).held
  }

  async role(name: 'populate' | 'inspect', signal: AbortSignal | undefined): Promise<RoleRun> {
    const session = await this.#sessions.session({ signal, timeoutMs: LINK_TIMEOUT_MS })
    const call = new Call(session, `/v1/roles/${name}`, { signal, timeoutMs: null, subject: 'archive', onAbort: 'end' })
    const ended = new Promise<void>((resolve) => call.stream.once('close', resolve))
    return {
      stdin: call.stream,
      output: answerTo(call),
      ended: ended.then(() => ({ how: 'its answer ended', stderrTail: '' })),
      kill: () => call.end(null),
    }
  }

  async uptimeUs(options?: CallOptions): Promise<number> {
    return (await this.#unary('/v1/clock', {}, clockReading, 'command', options)).uptimeUs
  }

  setClock(was: z.infer<typeof setClock>, options?: CallOptions): Promise<z.infer<typeof clockSet>> {
    return this.#unary('/v1/set-clock', setClock.parse(was), clockSet, 'command', options)
  }

  async shutdown(options: { readonly graceMs: number }): Promise<void> {
    await this.#unary('/v1/shutdown', { graceMs: options.graceMs }, empty, 'command', {
      timeoutMs: options.graceMs + SHUTDOWN_EXTRA_MS,
    })
  }

  async #startOnce(id: string, command: StartCommand, options: CallOptions): Promise<CommandOutput> {
    const { clock } = this.#sessions
    if (clock === null) return this.#open(`/v1/commands/${id}/start`, command, options)
    const until = performance.now() + (options.timeoutMs ?? DEFAULT_TIMEOUT_MS)
    const left = (): CallOptions => ({ ...options, timeoutMs: Math.max(1, Math.round(until - performance.now())) })
    await this.#session(options)
    // No round trip, unless the guest may have stood still, or the host slept.
    await clock.makeRight(left())
    return this.#open(`/v1/commands/${id}/start`, command, left())
  }

  /** However long an answer may take: without a link nothing is on its way. */
  #session({ signal, timeoutMs = DEFAULT_TIMEOUT_MS }: CallOptions): Promise<LinkSession> {
    return this.#sessions.session({ signal, timeoutMs: Math.min(timeoutMs, LINK_TIMEOUT_MS) })
  }

  async #call(
    path: string,
    subject: Subject,
    options: CallOptions | undefined,
    onAbort: CallLimits['onAbort'] = 'end',
  ): Promise<Call> {
    const timeoutMs = options?.timeoutMs ?? DEFAULT_TIMEOUT_MS
    const begun = performance.now()
    const session = await this.#session({ ...options, timeoutMs })
    const left = Math.max(1, timeoutMs - Math.round(performance.now() - begun))
    return new Call(session, path, { signal: options?.signal, timeoutMs: left, subject, onAbort })
  }

  async #open(path: string, body: unknown, options: CallOptions | undefined): Promise<CommandOutput> {
    const call = await this.#call(path, 'command', options)
    call.sendJson(body)
    try {
      return await OutputReader.open(call)
    } catch (error) {
      call.end(error)
      throw error
    }
  }

  async #unary<T>(
    path: string,
    body: unknown,
    schema: z.ZodType<T>,
    subject: Subject,
    options?: CallOptions,
    limitBytes?: number,
  ): Promise<T> {
    return answerOf(await this.#call(path, subject, options), body, schema, limitBytes)
  }
}

async function* answerTo(call: Call): AsyncGenerator<readonly Uint8Array[], void, undefined> {
  await call.answered()
  yield* call.batches()
}

/** Sends the body and reads the one document that answers it. */
async function answerOf<T>(
  call: Call,
  body: unknown,
  schema: z.ZodType<T>,
  limitBytes = SMALL_ANSWER_BYTES,
): Promise<T> {
  try {
    call.sendJson(body)
    await call.answered()
    return await call.readJson(schema, limitBytes)
  } finally {
    call.end(null)
  }
}

const isCode = (error: unknown, code: PyroError['code']): boolean => isPyroError(error) && error.code === code

/** Sends the input, the archive in data frames and the empty one that ends it. Stops without error when the answer came first. */
async function sendArchive(call: Call, input: z.infer<typeof extractInput>, archive: Readable): Promise<void> {
  await send(call, encodeJsonFrame(FRAME.input, input))
  for await (const chunk of archive as AsyncIterable<Buffer>) {
    if (!call.stream.writable) return
    call.touch()
    await send(call, frameHeader(FRAME.data, chunk.length), chunk)
  }
  if (!call.stream.writable) return
  call.commit()
  await send(call, frameHeader(FRAME.data, 0))
  if (call.stream.writable) call.stream.end()
}

/** Settles when the link took the bytes, or the call is over: whoever reads the answer says why. */
function send(call: Call, ...parts: readonly Uint8Array[]): Promise<void> {
  return new Promise((resolve) => {
    if (!call.stream.writable) return resolve()
    const done = (): void => {
      call.stream.off('close', done)
      resolve()
    }
    call.stream.once('close', done)
    for (const part of parts.slice(0, -1)) call.stream.write(part)
    call.stream.write(parts.at(-1) ?? new Uint8Array(0), done)
  })
}
