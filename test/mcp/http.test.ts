import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { request as httpRequest } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { FRAME, LIMITS } from '@pyro/protocol'
import { EngineServer } from '../sdk/engine-server.ts'
import { COMMAND_ID, commandResult, WORKSPACE_ID, workspaceRecord } from '../sdk/results.ts'
import { CLI } from '../support/world.ts'
import { answerOf } from './mcp-host.ts'

const SERVE = fileURLToPath(new URL('serve.ts', import.meta.url))
const STATUS = 'GET /v1/workspaces/{workspace}'
const EXEC = 'POST /v1/workspaces/{workspace}/exec'
const started = { type: 'started', workspaceId: WORKSPACE_ID, commandId: COMMAND_ID }

let folder = ''
beforeEach(() => (folder = mkdtempSync(join(tmpdir(), 'pyro-http-'))))
afterEach(() => rmSync(folder, { recursive: true }))

interface Listening extends AsyncDisposable {
  readonly url: string
  readonly token: string
  readonly tokenFile: string
}

const listen = async (env: NodeJS.ProcessEnv): Promise<Listening> => {
  const options = { http: 0, tokenFile: join(folder, 'state', 'token') }
  const child = spawn(process.execPath, [SERVE, JSON.stringify(options)], { env, stdio: ['ignore', 'pipe', 'inherit'] })
  const exited = new Promise((resolve) => child.once('exit', resolve))
  const { url, tokenFile } = await new Promise<{ url: string; tokenFile: string }>((resolve, reject) => {
    child.stdout.once('data', (line: Buffer) => resolve(JSON.parse(line.toString())))
    child.once('exit', () => reject(new Error('the server ended')))
  })
  return {
    url,
    tokenFile,
    token: readFileSync(tokenFile, 'utf8').trim(),
    [Symbol.asyncDispose]: async () => {
      child.kill()
      await exited
    },
  }
}

/** A raw request: fetch would not let a test lie about Host. */
const ask = (
  url: string,
  headers: Record<string, string>,
  body = '{"jsonrpc":"2.0","id":1,"method":"tools/list"}',
  method = 'POST',
): Promise<number> =>
  new Promise((resolve, reject) => {
    const accept = 'application/json, text/event-stream'
    const request = httpRequest(
      url,
      { method, headers: { 'content-type': 'application/json', accept, ...headers } },
      (response) => {
        response.resume()
        resolve(response.statusCode ?? 0)
      },
    )
    request.once('error', reject)
    request.end(body)
  })

const connect = async ({ url, token }: Listening, mode: 'auto' | 'legacy'): Promise<Client> => {
  const client = new Client({ name: 'test-host', version: '1' }, { versionNegotiation: { mode } })
  const headers = { authorization: `Bearer ${token}` }
  await client.connect(new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } }))
  return client
}

describe('the server over HTTP', () => {
  it('keeps its token in a file that only its owner can read, and keeps the token', async () => {
    await using engine = await EngineServer.start()
    let first = ''
    {
      await using server = await listen(engine.env)
      first = server.token
      expect(statSync(server.tokenFile).mode & 0o777).toBe(0o600)
      expect(server.url).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/mcp$/)
    }
    await using again = await listen(engine.env)
    expect(again.token).toBe(first)
  })

  it('refuses a token file that others can read', async () => {
    await using engine = await EngineServer.start()
    writeFileSync(join(folder, 'open'), 'x', { mode: 0o644 })
    const options = { http: 0, tokenFile: join(folder, 'open') }
    const child = spawn(process.execPath, [SERVE, JSON.stringify(options)], {
      env: engine.env,
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    let said = ''
    child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()))
    expect(await new Promise((resolve) => child.once('exit', resolve))).toBe(1)
    expect(said).toContain('can be read by others')
  })

  describe('is not started', () => {
    /** The command line as a user runs it. */
    const refused = async (env: NodeJS.ProcessEnv, port: number): Promise<{ code: number | null; said: string }> => {
      const child = spawn(process.execPath, [CLI, 'mcp', 'serve', '--http', String(port)], {
        env: { ...env, NO_COLOR: '1' },
        stdio: ['ignore', 'ignore', 'pipe'],
      })
      let said = ''
      child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()))
      const [code] = (await once(child, 'close')) as [number | null]
      return { code, said }
    }

    it('on a port that is none, or taken', async () => {
      await using engine = await EngineServer.start()
      await using server = await listen(engine.env)
      const taken = Number(new URL(server.url).port)
      expect(await refused(engine.env, 99_999)).toEqual({
        code: 2,
        said: 'error: 99999 is no port; the server was not started (input.invalid)\n  hint: name a port up to 65535; 0 takes a free one\n',
      })
      expect(await refused(engine.env, taken)).toEqual({
        code: 2,
        said: `error: port ${taken} of 127.0.0.1 is taken by another program; the server was not started (input.invalid)\n  hint: name another port; 0 takes a free one\n`,
      })
    })

    it.each([
      ['a symbolic link', (path: string) => symlinkSync(join(folder, 'elsewhere'), path)],
      ['not a regular file', (path: string) => mkdirSync(path)],
      ['not a regular file', (path: string) => execFileSync('mkfifo', ['--mode=600', path])],
    ])('with a token file that is %s', async (what, make) => {
      await using engine = await EngineServer.start()
      mkdirSync(engine.home, { recursive: true })
      const path = join(engine.home, 'mcp-token')
      make(path)
      expect(await refused(engine.env, 0)).toEqual({
        code: 2,
        said: `error: the token file ${path} is ${what}; it was not used (input.invalid)\n  hint: remove ${path}; a new one is made\n`,
      })
    })

    it('without room for its token, and leaves no half of it', async () => {
      await using engine = await EngineServer.start()
      mkdirSync(engine.home, { recursive: true })
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=4k', 'tmpfs', engine.home])
      try {
        writeFileSync(join(engine.home, 'other'), 'x')
        const { code, said } = await refused(engine.env, 0)
        expect({ code, said }).toMatchObject({ code: 5, said: expect.stringContaining('(disk.full)') })
        expect(readdirSync(engine.home)).toEqual(['other'])
      } finally {
        execFileSync('umount', [engine.home])
      }
    })
  })

  describe('has room for 64 sessions', () => {
    const initialize = JSON.stringify({
      jsonrpc: '2.0',
      id: 1,
      method: 'initialize',
      params: { protocolVersion: '2025-06-18', capabilities: {}, clientInfo: { name: 'x', version: '1' } },
    })
    const send = (server: Listening, init: RequestInit = {}): Promise<Response> => {
      const accept = 'application/json, text/event-stream'
      const headers = { authorization: `Bearer ${server.token}`, 'content-type': 'application/json', accept }
      return fetch(server.url, { ...init, headers: { ...headers, ...(init.headers as Record<string, string>) } })
    }
    const open = async (server: Listening): Promise<string | null> => {
      const response = await send(server, { method: 'POST', body: initialize })
      await response.text()
      return response.headers.get('mcp-session-id')
    }
    const listTools = async (server: Listening, id: string): Promise<number> => {
      const body = '{"jsonrpc":"2.0","id":2,"method":"tools/list"}'
      const response = await send(server, { method: 'POST', body, headers: { 'mcp-session-id': id } })
      await response.text()
      return response.status
    }

    it('and closes idle ones for new ones, also when many open at once', async () => {
      await using engine = await EngineServer.start()
      await using server = await listen(engine.env)
      const first = await open(server)
      const ids = await Promise.all(Array.from({ length: 200 }, () => open(server)))
      const alive = await Promise.all(ids.map(async (id) => id !== null && (await listTools(server, id)) === 200))
      expect(alive.filter(Boolean).length).toBeGreaterThan(0)
      expect(alive.filter(Boolean).length).toBeLessThanOrEqual(64)
      expect(await listTools(server, first ?? '')).toBe(404)
    })

    it('and refuses more while all of them are in use', async () => {
      await using engine = await EngineServer.start()
      await using server = await listen(engine.env)
      const stop = new AbortController()
      // Held: the stream of an answer that nobody holds is closed.
      const streams: Response[] = []
      for (let count = 0; count < 64; count += 1) {
        const id = (await open(server)) ?? ''
        // The stream on which a client listens.
        streams.push(await send(server, { headers: { 'mcp-session-id': id }, signal: stop.signal }))
      }
      const refused = await send(server, { method: 'POST', body: initialize })
      expect(refused.status).toBe(429)
      expect(await refused.json()).toMatchObject({
        error: {
          message: 'limit.exceeded: 64 sessions are in use already; none was opened',
          data: { code: 'limit.exceeded', hint: 'close a client, or try again later' },
        },
      })
      expect(streams.map(({ status }) => status)).toEqual(Array(64).fill(200))
      stop.abort()
      await expect.poll(() => open(server), { timeout: 30_000 }).not.toBeNull()
    })
  })

  it('answers only with the token, to Host and Origin of this machine, on its path', async () => {
    await using engine = await EngineServer.start()
    await using server = await listen(engine.env)
    const { url, token } = server
    const bearer = { authorization: `Bearer ${token}` }
    expect(await ask(url, {})).toBe(401)
    expect(await ask(url, { authorization: `Bearer ${token}x` })).toBe(401)
    expect(await ask(url, { authorization: token })).toBe(401)
    expect(await ask(url, { ...bearer, host: 'evil.example' })).toBe(403)
    expect(await ask(url, { ...bearer, origin: 'http://evil.example' })).toBe(403)
    expect(await ask(url, { ...bearer, origin: 'null' })).toBe(403)
    expect(await ask(url.replace('/mcp', '/other'), bearer)).toBe(404)
    expect(await ask(url, bearer, 'x'.repeat(2 * LIMITS.requestBytes + 1))).toBe(413)
    expect(await ask(url, bearer, '{"jsonrpc":')).toBe(400)
    expect(await ask(url, { ...bearer, 'content-type': 'text/plain' })).toBe(415)
    expect(await ask(url, { ...bearer, 'mcp-session-id': 'unknown' })).toBe(404)
    expect(engine.calls).toEqual([])
  })

  it.each(['legacy', 'auto'] as const)('serves tools, progress and cancellation (%s)', async (mode) => {
    const cancelled = Promise.withResolvers<void>()
    await using engine = await EngineServer.start({
      [STATUS]: ({ reply }) => reply.json(workspaceRecord()),
      [EXEC]: async ({ reply, input }) => {
        reply.event(started)
        reply.frame(FRAME.stdout, 'working\n')
        if (input['command'] === 'long')
          return cancelled.promise.then(() => reply.error('request.cancelled', 'cancelled'))
        reply.result(commandResult())
      },
      'POST /v1/requests/{requestId}/cancel': ({ reply }) => {
        cancelled.resolve()
        reply.json({ cancelled: true })
      },
    })
    await using server = await listen(engine.env)
    const client = await connect(server, mode)
    try {
      expect((await client.listTools()).tools).toHaveLength(12)
      const exec = (command: string): { name: string; arguments: object } => ({
        name: 'workspace_exec',
        arguments: { workspace: 'fix', command },
      })
      expect(answerOf(await client.callTool(exec('true') as never)).text).toBe(
        `exit 0 · 12 ms · ${COMMAND_ID}\nworking`,
      )
      const abort = new AbortController()
      const said: (string | undefined)[] = []
      const call = client.callTool(exec('long') as never, {
        signal: abort.signal,
        onprogress: ({ message }) => {
          said.push(message)
          abort.abort()
        },
      })
      await expect(call).rejects.toThrow(/abort/i)
      await cancelled.promise
      expect(said).toEqual(['working'])
    } finally {
      await client.close()
    }
  })
})
