import type { McpInputOf, OperationId } from '@pyro/protocol'
import type { Pyro } from '@pyro/sdk'
import type { Calls } from './calls.ts'
import type { Creations } from './creations.ts'
import type { HostPaths } from './host/host-paths.ts'
import type { Runs } from './runs.ts'

/** What one server process shares between its calls. */
export interface ServerContext {
  readonly pyro: Pyro
  readonly host: HostPaths
  readonly calls: Calls
  readonly creations: Creations
  readonly runs: Runs
}

/** What one call has beside that. */
export interface CallContext extends ServerContext {
  /** Fires when the client cancels the call. */
  readonly signal: AbortSignal
  /** Tells the client what is going on, where it asked for that. */
  readonly progress: (message: string) => void
}

/** The answer of a tool: a text for the model, and in the profile `full` the same as data. */
export interface Answer {
  readonly text: string
  readonly structured: Readonly<Record<string, unknown>>
}

export interface Tool<Input> {
  /** True when the tool keeps the time limit itself, because it can say more than "still going on". */
  readonly ownDeadline?: true
  readonly call: (input: Input, context: CallContext) => Promise<Answer>
}

export type ToolOf<Id extends OperationId> = Tool<McpInputOf<Id>>

/** A call that fetches something, as the model can make it. */
export const callText = (tool: string, input: Readonly<Record<string, unknown>>): string =>
  `${tool} ${JSON.stringify(input)}`

/** Lines of an answer; empty parts are left out. */
export const lines = (...parts: readonly (string | null | undefined)[]): string =>
  parts.filter((part) => part !== null && part !== undefined && part !== '').join('\n')
