import type { z } from 'zod'
import type { ErrorCode } from './errors.ts'

/**
 * An operation is one thing a user can do, defined once; engine, HTTP, SDK, CLI, MCP and the docs are derived from it.
 *
 * - `unary`: one JSON document in, one out.
 * - `stream`: the response is frames (see wire/frames.ts): events, data, then exactly one result or error.
 *
 * `upload` says which frames the request body carries after the JSON input; `download` which frames the response carries
 * beside its events.
 */
export type OperationKind = 'unary' | 'stream'

/** Bytes that travel beside the JSON of an operation. */
export interface Upload {
  /** Frame type that carries them. */
  readonly frame: 'data' | 'stdin' | 'data+stdin'
  /** What they are, for the docs. */
  readonly what: string
}

export interface HttpFacet {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  /** `{field}` takes a field of the input from the path. GET and DELETE take the rest from the query, others from the body. */
  readonly path: string
}

export interface CliPositional {
  /** Field of the input, or null for a path on the host that the command reads or writes itself. */
  readonly field: string | null
  /** As shown in help, e.g. `WS`. */
  readonly label: string
  readonly required: boolean
  readonly variadic?: boolean
  /** Everything after `--`. */
  readonly afterDashes?: boolean
  readonly summary: string
  readonly choices?: readonly string[]
  /** What completion offers. */
  readonly completes?: 'workspace' | 'snapshot' | 'environment' | 'command' | 'path'
}

export interface CliOption {
  /** Long name without dashes. */
  readonly flag: string
  readonly short?: 'e' | 'w' | 'i' | 'p' | 'f'
  /** Field of the input it sets; null when the command itself handles it (host files, output form). */
  readonly field: string | null
  readonly type: 'boolean' | 'string' | 'int' | 'duration' | 'key-value' | 'list'
  /** Placeholder in help, e.g. `D`. */
  readonly value?: string
  /** Shown in help; the engine applies the real one. */
  readonly default?: string
  readonly choices?: readonly string[]
  readonly completes?: CliPositional['completes']
  readonly summary: string
}

export interface CliFacet {
  readonly words: readonly string[]
  readonly positionals: readonly CliPositional[]
  readonly options: readonly CliOption[]
  /** Complete command lines; each is executed by a test. */
  readonly examples: readonly { readonly line: string; readonly note: string }[]
}

export interface SdkFacet {
  /** Where the method lives: `workspaces.create`, `workspace.exec`, `workspace.snapshots.create`. */
  readonly method: string
}

export const MCP_PROFILES = ['run', 'core', 'full'] as const
export type McpProfile = (typeof MCP_PROFILES)[number]

export interface McpFacet<Input extends z.ZodType = z.ZodType> {
  readonly tool: string
  readonly profiles: readonly McpProfile[]
  /** What the model reads beside the name; every word costs its context. Default: the summary. */
  readonly description?: string
  /** Parameters of the tool. Default: the input of the operation, and the tool answers with its result as it is. */
  readonly input?: Input
  /** True when it can destroy what no other call brings back; hosts may ask their user first. */
  readonly destructive?: true
  /** False for a tool of an operation that changes nothing by itself, where the tool can write to the host. */
  readonly readOnly?: false
}

/** A surface may lack an operation only with a written reason. */
export interface Absent {
  readonly absent: string
}

export interface Operation<
  Id extends string = string,
  Input extends z.ZodType = z.ZodType,
  Result extends z.ZodType = z.ZodType,
  Event extends z.ZodType = z.ZodType,
  McpInput extends z.ZodType = z.ZodType,
> {
  readonly id: Id
  /** One line, imperative, no full stop. */
  readonly summary: string
  /** Some sentences for help and docs. */
  readonly description?: string
  readonly kind: OperationKind
  readonly input: Input
  readonly result: Result
  /** Events of a stream, e.g. progress. */
  readonly event?: Event
  readonly upload?: Upload
  /** What the response's data or stdout and stderr frames hold. */
  readonly download?: string
  /** True when it changes something: such calls carry a request id and are answered once. */
  readonly mutates: boolean
  /** Codes beyond `input.invalid`, `request.cancelled`, `engine.*` and `internal`, which any operation can answer. */
  readonly errors: readonly ErrorCode[]
  readonly http: HttpFacet | Absent
  readonly sdk: SdkFacet | Absent
  readonly cli: CliFacet | Absent
  readonly mcp: McpFacet<McpInput> | Absent
}

export const defineOperation = <
  const Id extends string,
  Input extends z.ZodType,
  Result extends z.ZodType,
  Event extends z.ZodType = z.ZodNever,
  McpInput extends z.ZodType = Input,
>(
  operation: Operation<Id, Input, Result, Event, McpInput>,
): Operation<Id, Input, Result, Event, McpInput> => operation

export const isAbsent = (facet: object): facet is Absent => 'absent' in facet
