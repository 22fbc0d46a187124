import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import {
  encodeFrame,
  encodeJsonFrame,
  FRAME,
  FrameDecoder,
  FRAMES_CONTENT_TYPE,
  REQUEST_ID_HEADER,
  type ErrorCode,
  type FrameType,
} from '@pyro/protocol/client'
import { socketOfHome, VERSION } from '@pyro/sdk'
import { volatileFolder } from '../support/host-run.ts'

/** One request as the engine's side sees it. */
export interface Call {
  readonly method: string
  readonly path: string
  readonly query: Readonly<Record<string, unknown>>
  readonly requestId: string
  readonly version: string
  /** JSON body, or the input frame. */
  input: Record<string, unknown>
  /** Frames of the request behind the input, as they arrive. */
  readonly frames: AsyncIterable<{ readonly type: FrameType; readonly payload: Uint8Array }>
  readonly reply: Reply
}

/** Answers of one call: HTTP, or behind a request to upgrade the bare connection. */
export class Reply {
  readonly #out: ServerResponse | Socket
  #begun = false

  constructor(out: ServerResponse | Socket) {
    this.#out = out
  }

  json(value: unknown, status = 200): void {
    const text = JSON.stringify(value)
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }
    if ('writeHead' in this.#out) this.#out.writeHead(status, headers)
    else this.#head(status, headers)
    this.#out.end(text)
  }

  refuse(code: ErrorCode, message: string, status = 400): void {
    this.json({ error: { code, message, hint: 'try something else', data: null } }, status)
  }

  frame(type: FrameType, payload: Uint8Array | string): void {
    this.#begin()
    this.#out.write(encodeFrame(type, Buffer.from(payload)))
  }

  event(value: unknown): void {
    this.#begin()
    this.#out.write(encodeJsonFrame(FRAME.event, value))
  }

  result(value: unknown): void {
    this.#begin()
    this.#out.end(encodeJsonFrame(FRAME.result, value))
  }

  error(code: ErrorCode, message: string): void {
    this.#begin()
    this.#out.end(encodeJsonFrame(FRAME.error, { code, message, hint: null, data: null }))
  }

  /** What a client sees of an engine that is killed. */
  cut(): void {
    if ('writeHead' in this.#out) this.#out.socket?.destroy()
    else this.#out.destroy()
  }

  #begin(): void {
    if (!this.#begun) this.#head(101, { 'content-type': FRAMES_CONTENT_TYPE })
  }

  #head(status: number, headers: Readonly<Record<string, string | number>>): void {
    this.#begun = true
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
    this.#out.write(`HTTP/1.1 ${status} Answer\r\n${lines.join('')}\r\n`)
  }
}

export type Handler = (call: Call) => void | Promise<void>

/** `POST /v1/workspaces/{workspace}/exec`; the first that matches answers. */
export type Routes = Readonly<Record<string, Handler>>

/**
 * The engine's half of the wire, for tests of the client's half: a real HTTP server on a real socket, where the client looks for it.
 */
export class EngineServer implements AsyncDisposable {
  readonly folder: string
  readonly home: string
  readonly socket: string
  readonly env: NodeJS.ProcessEnv
  readonly calls: Call[] = []
  routes: Routes
  #server: Server | null = null
  readonly #bare = new Set<Socket>()
  readonly #runtimeDir = volatileFolder('s-')
  #restarting: Promise<void> = Promise.resolve()

  private constructor(routes: Routes) {
    this.folder = mkdtempSync(join(tmpdir(), 'pyro-sdk-'))
    this.home = join(this.folder, 'home')
    this.env = { ...process.env, PYRO_HOME: this.home, PYRO_RUNTIME_DIR: this.#runtimeDir }
    this.socket = socketOfHome(this.home, this.env)
    this.routes = routes
    mkdirSync(dirname(this.socket), { recursive: true })
  }

  static async start(routes: Routes = {}): Promise<EngineServer> {
    const engine = new EngineServer(routes)
    await engine.listen()
    return engine
  }

  async listen(): Promise<void> {
    const server = createServer((request, response) => void this.#handle(request, new Reply(response)))
    server.on('upgrade', (request, stream, head) => {
      const socket = stream as Socket
      this.#bare.add(socket)
      socket.on('close', () => this.#bare.delete(socket)).on('error', () => socket.destroy())
      if (head.length > 0) socket.unshift(head)
      void this.#handle(request, new Reply(socket), socket)
    })
    this.#server = server
    await new Promise<void>((resolve) => server.listen(this.socket, resolve))
  }

  /** As after SIGKILL, except that the socket's name goes, too. */
  async kill(): Promise<void> {
    const server = this.#server
    this.#server = null
    if (server === null) return
    server.closeAllConnections()
    for (const socket of this.#bare) socket.destroy()
    await new Promise((resolve) => server.close(resolve))
  }

  /** Dies and is back a moment later. */
  restart(downMs = 50): void {
    this.#restarting = this.kill()
      .then(() => new Promise((resolve) => setTimeout(resolve, downMs)))
      .then(() => this.listen())
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#restarting
    await this.kill()
    for (const folder of [this.folder, this.#runtimeDir]) rmSync(folder, { recursive: true, force: true })
  }

  /** Calls that named this operation's path, in order. */
  of(method: string, pattern: RegExp): Call[] {
    return this.calls.filter((call) => call.method === method && pattern.test(call.path))
  }

  async #handle(request: IncomingMessage, reply: Reply, bare?: Socket): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://pyro')
    const frames = bare === undefined ? null : framesOf(bare)
    const call: Call = {
      method: request.method ?? '',
      path: decodeURIComponent(url.pathname),
      query: Object.fromEntries([...url.searchParams].map(([key, value]) => [key, JSON.parse(value) as unknown])),
      requestId: String(request.headers[REQUEST_ID_HEADER]),
      version: String(request.headers['pyro-version']),
      input: {},
      frames: frames ?? none(),
      reply,
    }
    call.input = frames === null ? await jsonBody(request) : await inputFrame(frames)
    if (call.path === '/v1/engine') {
      return call.reply.json({
        running: true,
        pid: process.pid,
        version: VERSION,
        socket: this.socket,
        home: this.home,
        workspaces: 0,
      })
    }
    this.calls.push(call)
    const handler = Object.entries(this.routes).find(([route]) => matches(route, call))?.[1]
    if (handler === undefined) call.reply.refuse('internal', `no route for ${call.method} ${call.path}`, 500)
    else await handler(call)
  }
}

const matches = (route: string, call: Call): boolean => {
  const [method, path = ''] = route.split(' ')
  return method === call.method && new RegExp(`^${path.replaceAll(/\{\w+\}/g, '[^/]+')}$`).test(call.path)
}

const jsonBody = async (request: IncomingMessage): Promise<Record<string, unknown>> => {
  const chunks: Buffer[] = []
  for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk)
  const text = Buffer.concat(chunks).toString()
  return text === '' ? {} : (JSON.parse(text) as Record<string, unknown>)
}

async function* framesOf(socket: Socket): AsyncGenerator<{ type: FrameType; payload: Uint8Array }> {
  const decoder = new FrameDecoder()
  try {
    for await (const chunk of socket.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>)
      yield* decoder.push(chunk)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ECONNRESET') throw error
  }
}

const inputFrame = async (
  frames: AsyncGenerator<{ type: FrameType; payload: Uint8Array }>,
): Promise<Record<string, unknown>> => {
  const first = await frames.next()
  if (first.done === true || first.value.type !== FRAME.input)
    throw new Error('the request does not begin with its input')
  return JSON.parse(Buffer.from(first.value.payload).toString()) as Record<string, unknown>
}

async function* none(): AsyncGenerator<never> {}
