import { FRAME, isPyroError, PyroError } from '@pyro/protocol/client'
import type { CommandResult, InputOf, ResultOf } from '@pyro/protocol'
import { cancelled, newRequestId, type Client } from './client.ts'
import { EngineGone } from './engine-gone.ts'
import { attemptStream, type Sink } from './stream.ts'
import type { FrameSender, Upload } from './upload.ts'

export type CommandSignal = NonNullable<InputOf<'workspace.command.kill'>['signal']>

export interface CommandStarted {
  readonly workspaceId: string
  readonly commandId: string
}

export interface CommandCall {
  readonly sink: Sink
  readonly upload?: Upload | undefined
  readonly signal?: AbortSignal | undefined
  /** The command exists now and can be found again. */
  readonly started?: ((started: CommandStarted) => void) | undefined
  /** Gets the function that sends a signal to the command; asking for it keeps the request open while the command runs. */
  readonly control?: ((send: (signal: CommandSignal) => void) => void) | undefined
}

/**
 * A command that outlives its engine: before it has started the call is repeated with the same request id, after that its output is
 * followed from the byte where it broke off.
 */
class CommandStream<Operation extends 'workspace.exec' | 'run'> {
  readonly #client: Client
  readonly #head: { readonly operation: Operation; readonly input: Record<string, unknown>; readonly requestId: string }
  readonly #call: CommandCall
  #started: CommandStarted | null = null
  /** Bytes of output received, gaps included. */
  #cursor = 0
  #sender: FrameSender | null = null
  /** The command has all of its standard input. */
  #stdinTaken: boolean
  #following = false

  constructor(client: Client, operation: Operation, input: InputOf<Operation>, call: CommandCall) {
    this.#client = client
    this.#head = { operation, input, requestId: newRequestId() }
    this.#call = call
    this.#stdinTaken = call.upload?.stdin === undefined
  }

  async run(): Promise<ResultOf<Operation>> {
    this.#call.control?.((signal) => this.#send(signal))
    const result = await this.#client.cancellable(
      this.#head,
      this.#call.signal,
      (signal) =>
        this.#client.reconnecting(
          () => this.#attempt(signal),
          signal,
          () => this.#cursor,
        ),
      (ended) => this.#cancel(ended),
    )
    return result as ResultOf<Operation>
  }

  async #attempt(signal: AbortSignal): Promise<unknown> {
    if (this.#started !== null) return this.#follow(this.#started, signal)
    const { upload } = this.#call
    const opened = (sender: FrameSender): void => void (this.#sender = sender)
    try {
      return await attemptStream(this.#client.wire, { head: this.#head, sink: this.#sink(), upload, signal, opened })
    } catch (error) {
      if (error instanceof EngineGone) this.#refuseHalfSentInput(error)
      throw error
    } finally {
      this.#sender = null
    }
  }

  async #follow({ workspaceId, commandId }: CommandStarted, signal: AbortSignal): Promise<unknown> {
    this.#following = true
    const input = { workspace: workspaceId, commandId, follow: true, cursor: this.#cursor }
    const head = { operation: 'workspace.logs', input, requestId: newRequestId() } as const
    const result = await this.#ended(attemptStream(this.#client.wire, { head, sink: this.#sink(), signal }))
    if (this.#call.signal?.aborted === true) throw cancelled(this.#head.operation, 'its command was told to end')
    if (result.state === 'interrupted') throw interrupted(result)
    if (this.#head.operation === 'workspace.exec') return result
    return { ...result, kept: await this.#endRun(workspaceId) }
  }

  /** A reset or delete that the lost engine committed took the command along. */
  async #ended(answer: Promise<unknown>): Promise<CommandResult> {
    try {
      return (await answer) as CommandResult
    } catch (error) {
      if (!isPyroError(error)) throw error
      const isCleared = error.code === 'command.not-found' && typeof error.data?.['clearedAt'] === 'string'
      if (isCleared) throw interrupted(this.#gone('reset'), error)
      if (error.code === 'workspace.not-found') throw interrupted(this.#gone('delete'), error)
      throw error
    }
  }

  #gone(by: string): Interrupted {
    const { workspaceId = '', commandId = '' } = this.#started ?? {}
    return { workspaceId, commandId, interruptedBy: by }
  }

  /** The engine that would have deleted the workspace of a `run` is gone, so the client does. */
  async #endRun(workspaceId: string): Promise<boolean> {
    if (this.#head.input['keep'] === true) return true
    await this.#client.call('workspace.delete', { workspaces: [workspaceId], ifExists: true })
    return false
  }

  #sink(): Sink {
    const { sink } = this.#call
    return {
      data: sink.data,
      end: sink.end,
      event: (event) => {
        this.#note(event)
        return sink.event?.(event)
      },
      stdout: (bytes) => {
        this.#cursor += bytes.byteLength
        return sink.stdout?.(bytes)
      },
      stderr: (bytes) => {
        this.#cursor += bytes.byteLength
        return sink.stderr?.(bytes)
      },
    }
  }

  #note(event: unknown): void {
    const { type, bytes, workspaceId, commandId } = event as Record<string, unknown>
    if (type === 'gap') this.#cursor += Number(bytes)
    if (type === 'stdin-taken') this.#stdinTaken = true
    if (type !== 'started') return
    this.#started = { workspaceId: String(workspaceId), commandId: String(commandId) }
    this.#call.started?.(this.#started)
  }

  /** A signal does not wait behind input that the command does not read. */
  #send(signal: CommandSignal): void {
    if (this.#started !== null && (this.#sender === null || !this.#stdinTaken)) void this.#kill(this.#started, signal)
    else this.#sender?.json(FRAME.control, { type: 'signal', signal })
  }

  async #cancel(ended: AbortSignal): Promise<void> {
    if (this.#following && this.#started !== null) return this.#kill(this.#started, 'KILL')
    return this.#client.cancelRequest(this.#head, ended)
  }

  async #kill(command: CommandStarted, signal: CommandSignal): Promise<void> {
    try {
      await this.#client.call('workspace.command.kill', {
        workspace: command.workspaceId,
        commandId: command.commandId,
        signal,
      })
    } catch (error) {
      // The command has ended meanwhile, or the engine cannot say: the stream itself tells which.
      if (!(error instanceof PyroError)) throw error
    }
  }

  #refuseHalfSentInput(cause: EngineGone): void {
    if (this.#started === null || this.#stdinTaken) return
    const { commandId, workspaceId } = this.#started
    throw new PyroError(
      'engine.unreachable',
      `the engine ended while standard input was being sent; ${commandId} goes on without the rest of it`,
      { hint: `pyro workspace command wait ${workspaceId} ${commandId}`, data: { ...this.#started }, cause },
    )
  }
}

type Interrupted = Pick<CommandResult, 'workspaceId' | 'commandId' | 'interruptedBy'>

const interrupted = (result: Interrupted, cause?: unknown): PyroError =>
  new PyroError(
    'command.interrupted',
    `${result.commandId} ended with its sandbox (${result.interruptedBy ?? 'the sandbox died'})`,
    {
      hint: `pyro workspace status ${result.workspaceId}`,
      data: { interruptedBy: result.interruptedBy, command: result },
      cause,
    },
  )

/** Runs `workspace.exec` or `run` to its end, across engine restarts. */
export const streamCommand = <Operation extends 'workspace.exec' | 'run'>(
  client: Client,
  operation: Operation,
  input: InputOf<Operation>,
  call: CommandCall,
): Promise<ResultOf<Operation>> => new CommandStream(client, operation, input, call).run()
