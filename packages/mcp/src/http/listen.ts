import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { LIMITS, PyroError, type McpProfile } from '@pyro/protocol'
import {
  createMcpHandler,
  hostHeaderValidationResponse,
  isLegacyRequest,
  localhostAllowedHostnames,
  localhostAllowedOrigins,
  originValidationResponse,
} from '@modelcontextprotocol/server'
import { createServer } from '../server.ts'
import type { Serving } from '../serve.ts'
import type { ServerContext } from '../tool.ts'
import { readBody, sendResponse, webRequest } from './bridge.ts'
import { Sessions } from './sessions.ts'
import { authorized, tokenOf } from './token.ts'

const ADDRESS = '127.0.0.1'
const PATH = '/mcp'
/** A text of 4 MiB doubles when every character is escaped. */
const BODY_LIMIT_BYTES = 2 * LIMITS.requestBytes
const HEADERS_LIMIT_MS = 10_000
const REQUEST_LIMIT_MS = 60_000

const LARGEST_PORT = 65_535
const ANY_PORT = 'name another port; 0 takes a free one'

interface ListenOptions {
  readonly port: number
  readonly tokenFile: string | undefined
  readonly home: string
  readonly profile: McpProfile
  readonly shared: ServerContext
}

/**
 * Listens on 127.0.0.1 alone; every request needs the token, and Host and Origin of this machine.
 *
 * @throws PyroError `input.invalid` for a port that is none or taken, or a token file that is not safe; `host.needs-root`
 */
export const listen = async ({ port, profile, shared, ...options }: ListenOptions): Promise<Serving> => {
  if (port > LARGEST_PORT) throw noPort(port)
  const tokenFile = options.tokenFile ?? join(options.home, 'mcp-token')
  const token = await tokenOf(tokenFile)
  const report = (error: Error): void => void process.stderr.write(`pyro mcp: ${error.message}\n`)
  const modern = createMcpHandler(() => createServer({ profile, shared, closeCancels: true }), {
    legacy: 'reject',
    onerror: report,
    maxRequestBodySize: BODY_LIMIT_BYTES,
  })
  const sessions = new Sessions(() => createServer({ profile, shared, closeCancels: false }))

  const answer = async (request: Request, ended: AbortSignal): Promise<Response> =>
    hostHeaderValidationResponse(request, localhostAllowedHostnames()) ??
    originValidationResponse(request, localhostAllowedOrigins()) ??
    ((await isLegacyRequest(request, undefined, { maxRequestBodySize: BODY_LIMIT_BYTES }))
      ? sessions.handle(request, ended)
      : modern.fetch(request))

  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const refuse = (status: number, headers: Record<string, string> = {}): void => {
      response.writeHead(status, { connection: 'close', ...headers }).end()
    }
    if (!authorized(request.headers.authorization, token)) return refuse(401, { 'www-authenticate': 'Bearer' })
    if (new URL(request.url ?? '/', `http://${ADDRESS}`).pathname !== PATH) return refuse(404)
    // A body that is too large is read to its end and dropped: a client that is cut off while it writes never sees the answer.
    const body = await readBody(request, BODY_LIMIT_BYTES)
    if (body === null) return refuse(413)
    const closed = new AbortController()
    if (response.destroyed) return
    response.once('close', () => closed.abort())
    await sendResponse(await answer(webRequest(request, body, closed.signal), closed.signal), response)
  }

  const server = createHttpServer((request, response) => {
    handle(request, response).catch((error: unknown) => {
      if (!response.destroyed) report(error instanceof Error ? error : new Error(String(error)))
      response.destroy()
    })
  })
  server.headersTimeout = HEADERS_LIMIT_MS
  server.requestTimeout = REQUEST_LIMIT_MS
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(listenError(port, error)))
    server.listen(port, ADDRESS, resolve)
  })
  const closed = Promise.withResolvers<void>()
  server.once('close', () => closed.resolve())
  const { port: bound } = server.address() as AddressInfo
  return {
    url: `http://${ADDRESS}:${bound}${PATH}`,
    tokenFile,
    closed: closed.promise,
    close: async () => {
      await Promise.all([modern.close(), sessions.close()])
      server.close()
      server.closeAllConnections()
      shared.pyro.close()
      await closed.promise
    },
  }
}

const noPort = (port: number): PyroError =>
  new PyroError('input.invalid', `${port} is no port; the server was not started`, {
    hint: `name a port up to ${LARGEST_PORT}; 0 takes a free one`,
  })

const listenError = (port: number, cause: NodeJS.ErrnoException): Error => {
  if (cause.code === 'EADDRINUSE') {
    const message = `port ${port} of ${ADDRESS} is taken by another program; the server was not started`
    return new PyroError('input.invalid', message, { hint: ANY_PORT, cause })
  }
  if (cause.code === 'EACCES') {
    const message = `port ${port} of ${ADDRESS} is for root alone; the server was not started`
    return new PyroError('host.needs-root', message, { hint: ANY_PORT, cause })
  }
  return cause
}
