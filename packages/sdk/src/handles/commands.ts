import type { CommandResult, InputOf } from '@pyro/protocol'
import type { CommandSignal } from '../transport/command.ts'
import type { CallOptions, Client } from '../transport/client.ts'
import { Command } from './command.ts'

type ListOptions = CallOptions & Omit<InputOf<'workspace.command.list'>, 'workspace'>

/** The commands of one workspace since its last reset. */
export class Commands {
  readonly #client: Client
  readonly #workspace: string

  constructor(client: Client, workspace: string) {
    this.#client = client
    this.#workspace = workspace
  }

  async list({ signal, ...input }: ListOptions = {}): Promise<CommandResult[]> {
    const answer = await this.#client.call(
      'workspace.command.list',
      { workspace: this.#workspace, ...input },
      { signal },
    )
    return answer.commands
  }

  /** A handle on a command that was started before, by this program or another. */
  get(commandId: string): Command {
    return new Command(this.#client, { workspaceId: this.#workspace, commandId })
  }

  wait(commandId: string, options: CallOptions & { readonly timeoutMs?: number } = {}): Promise<CommandResult> {
    return this.get(commandId).wait(options)
  }

  kill(commandId: string, signal: CommandSignal = 'TERM', options: CallOptions = {}): Promise<CommandResult> {
    return this.get(commandId).kill(signal, options)
  }
}
