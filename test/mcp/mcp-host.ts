import { fileURLToPath } from 'node:url'
import { Client, type CallToolResult, type Progress } from '@modelcontextprotocol/client'
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio'
import type { ServeOptions } from '@pyro/mcp'

const SERVE = fileURLToPath(new URL('serve.ts', import.meta.url))

export interface HostOptions extends ServeOptions {
  readonly env: NodeJS.ProcessEnv
  /** `auto` speaks the newest revision, `legacy` that of 2025. */
  readonly era?: 'auto' | 'legacy'
  /** Program and arguments instead of the test's own. */
  readonly command?: readonly [string, ...string[]]
}

export interface ToolAnswer {
  readonly text: string
  readonly isError: boolean
  readonly structured: Record<string, unknown> | undefined
}

export interface CallOptions {
  readonly signal?: AbortSignal
  readonly onprogress?: (progress: Progress) => void
}

/** A host of the server: the official client over stdio, on a real process. */
export class McpHost implements AsyncDisposable {
  readonly client: Client
  readonly #transport: StdioClientTransport
  stderr = ''

  private constructor(client: Client, transport: StdioClientTransport) {
    this.client = client
    this.#transport = transport
    transport.stderr?.on('data', (chunk: Buffer) => (this.stderr += chunk.toString()))
  }

  static async start({ env, era = 'legacy', command, ...options }: HostOptions): Promise<McpHost> {
    const [program, ...args] = command ?? [process.execPath, SERVE, JSON.stringify(options)]
    const transport = new StdioClientTransport({
      command: program,
      args,
      env: Object.fromEntries(Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== undefined)),
      stderr: 'pipe',
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    })
    const client = new Client({ name: 'test-host', version: '1' }, { versionNegotiation: { mode: era } })
    const host = new McpHost(client, transport)
    await client.connect(transport)
    return host
  }

  get pid(): number | null {
    return this.#transport.pid
  }

  async call(name: string, input: Record<string, unknown> = {}, options: CallOptions = {}): Promise<ToolAnswer> {
    return answerOf(await this.client.callTool({ name, arguments: input }, options))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.client.close()
  }
}

export const answerOf = (result: CallToolResult): ToolAnswer => {
  const [content, ...more] = result.content
  if (content?.type !== 'text' || more.length > 0) throw new Error(`not one text: ${JSON.stringify(result)}`)
  return {
    text: content.text,
    isError: result.isError === true,
    structured: result.structuredContent as Record<string, unknown> | undefined,
  }
}
