import { isPyroError, PyroError, refuseLostField, type McpProfile } from '@pyro/protocol'
import { VERSION } from '@pyro/sdk'
import {
  SdkError,
  SdkErrorCode,
  ProtocolError,
  ProtocolErrorCode,
  Server,
  type CallToolResult,
  type ServerContext as McpContext,
} from '@modelcontextprotocol/server'
import { mcpHint, parameterNames } from './hint.ts'
import { duration } from './text/quantity.ts'
import { oneLine, plainText } from './text/terminal-text.ts'
import { INSTRUCTIONS, toolDefinitions, toolSources, type ToolSource } from './tool-list.ts'
import type { Answer, CallContext, ServerContext, Tool } from './tool.ts'
import { toolFor } from './tools/registry.ts'

/** Notifications of one call are at least this far apart. */
const PROGRESS_PAUSE_MS = 250
/** Text of one error: its message may quote what a guest wrote. */
const ERROR_LIMIT_CHARACTERS = 2000

export interface ServerOptions {
  readonly profile: McpProfile
  readonly shared: ServerContext
  /** True where closing the connection is how a client cancels; else a client that vanishes leaves its commands running. */
  readonly closeCancels: boolean
}

/** An MCP server of one profile; for one connection, or one request of a stateless transport. */
export const createServer = (options: ServerOptions): Server => {
  const { profile } = options
  const server = new Server(
    { name: 'pyro', version: VERSION },
    { capabilities: { tools: {} }, instructions: INSTRUCTIONS },
  )
  const definitions = toolDefinitions(profile)
  const sources = new Map(toolSources(profile).map((source) => [source.facet.tool, source]))
  server.setRequestHandler('tools/list', () => ({
    tools: definitions.map((definition) => ({
      ...definition,
      inputSchema: { ...definition.inputSchema, type: 'object' as const },
    })),
  }))
  server.setRequestHandler('tools/call', async ({ params }, mcp) => {
    const source = sources.get(params.name)
    if (source === undefined) {
      throw new ProtocolError(
        ProtocolErrorCode.InvalidParams,
        `no tool ${oneLine(params.name)} in the profile ${profile}`,
      )
    }
    return callTool(source, params.arguments ?? {}, { ...options, mcp })
  })
  return server
}

interface Surroundings extends ServerOptions {
  readonly mcp: McpContext
}

const callTool = async (
  source: ToolSource,
  given: unknown,
  { profile, shared, closeCancels, mcp }: Surroundings,
): Promise<CallToolResult> => {
  const context: CallContext = { ...shared, signal: cancellationOf(mcp, closeCancels), progress: progressOf(mcp) }
  try {
    const answer = await answerOf(source, toolFor(source.id), given, context)
    const content = [{ type: 'text' as const, text: answer.text }]
    return profile === 'full' ? { content, structuredContent: { ...answer.structured } } : { content }
  } catch (error) {
    if (!isPyroError(error)) process.stderr.write(`pyro mcp: ${source.facet.tool} failed: ${describe(error)}\n`)
    const failure = isPyroError(error)
      ? error
      : new PyroError('internal', `${source.facet.tool} failed: ${describe(error)}`)
    return errorResult(failure, source, profile)
  }
}

/** Fires when the client cancels the call, not when its connection is gone. */
const cancellationOf = ({ mcpReq: { signal } }: McpContext, closeCancels: boolean): AbortSignal => {
  if (closeCancels) return signal
  const controller = new AbortController()
  const abort = (): void => {
    const reason: unknown = signal.reason
    if (reason instanceof SdkError && reason.code === SdkErrorCode.ConnectionClosed) return
    controller.abort(reason)
  }
  if (signal.aborted) abort()
  else signal.addEventListener('abort', abort, { once: true })
  return controller.signal
}

const answerOf = async (
  source: ToolSource,
  tool: Tool<unknown>,
  given: unknown,
  context: CallContext,
): Promise<Answer> => {
  const input = parseInput(source, given)
  if (tool.ownDeadline === true) return tool.call(input, context)
  const name = source.facet.tool
  const work = await context.calls.within(`${name} ${JSON.stringify(input)}`, context.signal, (signal) =>
    tool.call(input, { ...context, signal }),
  )
  if (work.done) return work.value
  return {
    text: `${name} is still going on after ${duration(work.sinceMs)}: the same call again waits for it`,
    structured: { pending: true },
  }
}

const parseInput = ({ facet, input }: ToolSource, given: unknown): unknown => {
  refuseLostField(given)
  const parsed = input.safeParse(given)
  if (parsed.success) return parsed.data
  const problems = parsed.error.issues.map((issue) => {
    const path = issue.path.map(String).join('.')
    return path === '' ? issue.message : `${path}: ${issue.message}`
  })
  throw new PyroError('input.invalid', `${facet.tool}: ${problems.join('; ')}; nothing was done`, {
    hint: `parameters: ${parameterNames(input).join(', ')}`,
  })
}

/** `code: message` and one line of hint. */
const errorResult = (error: PyroError, source: ToolSource, profile: McpProfile): CallToolResult => {
  const message = plainText(error.message).slice(0, ERROR_LIMIT_CHARACTERS)
  const hint = error.hint === null ? null : mcpHint(error.hint, source, profile)
  const content = [
    { type: 'text' as const, text: `${error.code}: ${message}${hint === null ? '' : `\nhint: ${oneLine(hint)}`}` },
  ]
  return profile === 'full'
    ? { content, isError: true, structuredContent: { error: { ...error.toBody(), hint } } }
    : { content, isError: true }
}

const describe = (error: unknown): string => (error instanceof Error ? error.message : String(error))

const progressOf = ({ mcpReq }: McpContext): ((message: string) => void) => {
  const { _meta: meta } = mcpReq
  const token = meta?.progressToken
  if (token === undefined) return () => undefined
  let progress = 0
  let lastAtMs = 0
  return (message) => {
    const now = Date.now()
    if (now - lastAtMs < PROGRESS_PAUSE_MS || mcpReq.signal.aborted) return
    lastAtMs = now
    progress += 1
    const params = { progressToken: token, progress, message: oneLine(message) }
    // Progress is a courtesy: a connection that is gone ends the call by its own signal.
    mcpReq.notify({ method: 'notifications/progress', params }).catch(() => undefined)
  }
}
