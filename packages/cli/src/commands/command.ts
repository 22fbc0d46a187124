import type { InputOf, OperationId, ResultOf } from '@pyro/protocol'
import type { Pyro } from '@pyro/sdk'
import type { ParsedArguments } from '../args/parse.ts'
import type { Interrupts } from '../interrupts.ts'
import type { Terminal } from '../terminal.ts'

/** What a command gets to work with. */
export interface CommandContext {
  readonly args: ParsedArguments
  readonly terminal: Terminal
  readonly interrupts: Interrupts
  /** The connection; an engine is started by the first call that needs one. */
  readonly pyro: Pyro
}

export type Command = (context: CommandContext) => Promise<number>

export interface CommandModule {
  /** Resolves with the exit code. */
  readonly command: Command
}

/** The fields that the arguments set; the engine checks them. */
export const inputOf = <Id extends OperationId>(args: ParsedArguments): InputOf<Id> => args.input as InputOf<Id>

/** Prints a result for a person; returns an exit code when it is not 0. */
export type Render<Id extends OperationId> = (result: ResultOf<Id>, context: CommandContext) => void | number

/** A command that makes one call and prints what it answers: the document with `--json`, else what the renderer says. */
export const unary =
  <const Id extends OperationId>(id: Id, render: Render<Id>): Command =>
  async (context) => {
    const { args, terminal, interrupts, pyro } = context
    const result = await pyro.client.call(id, inputOf<Id>(args), { signal: interrupts.signal })
    if (!terminal.json) return render(result, context) ?? 0
    terminal.document(result)
    return 0
  }
