import type { CommandResult } from '@pyro/protocol'
import type { CommandSignal, CommandStarted } from '../transport/command.ts'
import type { CallOptions, Client } from '../transport/client.ts'
import { followOutput, textDecoder, type LogsOptions, type OutputChunk } from '../transport/output.ts'

/** A command that runs on its own, also when nobody holds this handle. */
export class Command {
  readonly commandId: string
  readonly workspaceId: string
  readonly #client: Client

  constructor(client: Client, started: CommandStarted) {
    this.#client = client
    this.commandId = started.commandId
    this.workspaceId = started.workspaceId
  }

  /**
   * Waits until the command ends.
   *
   * @throws PyroError `request.timed-out` when `timeoutMs` passes first, `command.interrupted` when its sandbox ended
   */
  wait(options: CallOptions & { readonly timeoutMs?: number | undefined } = {}): Promise<CommandResult> {
    const { signal, timeoutMs } = options
    const input = timeoutMs === undefined ? this.#ids : { ...this.#ids, timeoutMs }
    return this.#client.call('workspace.command.wait', input, { signal })
  }

  /** Signals the whole tree of the command; what outlives TERM by 5 s is killed. */
  kill(signal: CommandSignal = 'TERM', options: CallOptions = {}): Promise<CommandResult> {
    return this.#client.call('workspace.command.kill', { ...this.#ids, signal }, options)
  }

  /** All output from the beginning, in order of arrival, until the command ends. */
  output(options: LogsOptions = {}): AsyncGenerator<OutputChunk, CommandResult, undefined> {
    return followOutput(this.#client, { ...this.#ids, follow: true }, options)
  }

  /** Standard output as text, from the beginning until the command ends. */
  get stdout(): AsyncGenerator<string, void, undefined> {
    return this.#texts('stdout')
  }

  get stderr(): AsyncGenerator<string, void, undefined> {
    return this.#texts('stderr')
  }

  async *#texts(stream: OutputChunk['stream']): AsyncGenerator<string, void, undefined> {
    const decoder = textDecoder()
    let cut = ''
    const onGap = (): void => void (cut += decoder.decode())
    for await (const chunk of this.output({ onGap })) {
      if (chunk.stream !== stream) continue
      const text = cut + decoder.decode(chunk.bytes, { stream: true })
      cut = ''
      if (text !== '') yield text
    }
    const rest = cut + decoder.decode()
    if (rest !== '') yield rest
  }

  get #ids(): { workspace: string; commandId: string } {
    return { workspace: this.workspaceId, commandId: this.commandId }
  }
}
