import type { McpProfile } from '@pyro/protocol'
import { Pyro, type ClientOptions } from '@pyro/sdk'
import { ProtocolErrorCode } from '@modelcontextprotocol/server'
import { serveStdio } from '@modelcontextprotocol/server/stdio'
import { Calls } from './calls.ts'
import { Creations } from './creations.ts'
import { HostPaths, type HostPathOptions } from './host/host-paths.ts'
import { listen } from './http/listen.ts'
import { MessageLimit } from './message-limit.ts'
import { Runs } from './runs.ts'
import { createServer } from './server.ts'
import type { ServerContext } from './tool.ts'

/** Largest message taken from stdin. */
const MESSAGE_LIMIT_BYTES = 8 * 1024 * 1024

export interface ServeOptions extends HostPathOptions {
  readonly profile?: McpProfile | undefined
  /** Port on 127.0.0.1 (0: a free one); without it the server speaks on stdin and stdout. */
  readonly http?: number | undefined
  /** File with the bearer token of `http`, made when missing. Default: `mcp-token` in the home. */
  readonly tokenFile?: string | undefined
  /** Within which a call answers. Default 25 s; tests lower it. */
  readonly callLimitMs?: number | undefined
  /** How the engine is found. */
  readonly client?: ClientOptions | undefined
}

export interface Serving {
  /** Where `http` listens; null on stdio. */
  readonly url: string | null
  readonly tokenFile: string | null
  /** Settles when the client has gone (stdio) or `close` was called. */
  readonly closed: Promise<void>
  /** Ends the server. Commands that run in workspaces go on. */
  readonly close: () => Promise<void>
}

/**
 * Serves the tools of a profile over stdio, or over HTTP on 127.0.0.1.
 *
 * @throws PyroError `path.not-found` for a project or allowed folder that does not exist
 */
export const serve = async (options: ServeOptions = {}): Promise<Serving> => {
  const pyro = Pyro.open(options.client)
  const shared: ServerContext = {
    pyro,
    host: await HostPaths.open(options),
    calls: new Calls(options.callLimitMs),
    creations: new Creations(),
    runs: new Runs(),
  }
  const profile = options.profile ?? 'core'
  return options.http === undefined
    ? serveOnStdio(profile, shared)
    : listen({ port: options.http, tokenFile: options.tokenFile, home: pyro.client.home, profile, shared })
}

/** A request that is not read is answered all the same: its caller would wait for ever. */
const refuse = (id: string | null, error: { readonly code: number; readonly message: string }): void =>
  void process.stdout.write(`{"jsonrpc":"2.0","id":${id},"error":${JSON.stringify(error)}}\n`)

const refuseLong = (id: string | null): void => {
  const message = `limit.exceeded: a message has at most ${MESSAGE_LIMIT_BYTES} bytes; nothing was done`
  refuse(id, { code: ProtocolErrorCode.InvalidRequest, message })
}

const refuseUnreadable = (reason: string): void => {
  const message = `input.invalid: a message is a line of JSON: ${reason}; nothing was done`
  refuse(null, { code: ProtocolErrorCode.ParseError, message })
}

const serveOnStdio = async (profile: McpProfile, shared: ServerContext): Promise<Serving> => {
  const { StdioServerTransport } = await import('@modelcontextprotocol/server/stdio')
  const closed = Promise.withResolvers<void>()
  const input = process.stdin.pipe(
    new MessageLimit({ limitBytes: MESSAGE_LIMIT_BYTES, onDropped: refuseLong, onUnreadable: refuseUnreadable }),
  )
  // Whole lines below the limit, several at once.
  const transport = new StdioServerTransport(input, process.stdout, { maxBufferSize: 2 * MESSAGE_LIMIT_BYTES })
  const report = (error: Error): void => void process.stderr.write(`pyro mcp: ${error.message}\n`)
  const handle = serveStdio(() => createServer({ profile, shared, closeCancels: false }), {
    transport,
    onerror: report,
  })
  const finish = (): void => {
    // Still read, it would keep the process.
    process.stdin.destroy()
    shared.pyro.close()
    closed.resolve()
  }
  for (const event of ['end', 'close'] as const) input.once(event, finish)
  // A host that reads no more has gone, too.
  process.stdout.once('close', finish)
  return {
    url: null,
    tokenFile: null,
    closed: closed.promise,
    close: async () => {
      await handle.close()
      finish()
    },
  }
}
