import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer, type Http2Server, type ServerHttp2Stream } from 'node:http2'
import { connect, type Socket } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { GUEST_PROTOCOL, type Hello } from '@pyro/protocol/guest'

/** Answers one request of the engine. `body` is what the engine sent, for requests that end. */
export type Answer = (stream: ServerHttp2Stream, path: string, body: () => Promise<Buffer>) => void | Promise<void>

export interface Identity {
  readonly sandboxId: string
  readonly token: string
  readonly bootId: string
}

/** A message of the guest protocol with values that fit its schema and values that do not. */
export interface Fixture {
  readonly message: string
  readonly valid: readonly { readonly name: string; readonly value: unknown }[]
  readonly invalid: readonly { readonly name: string; readonly value: unknown }[]
}

/** `spec/guest/<name>.json` */
export const fixture = (name: string): Fixture =>
  JSON.parse(readFileSync(fileURLToPath(new URL(`../../spec/guest/${name}.json`, import.meta.url)), 'utf8')) as Fixture

export interface GoldenFrame {
  readonly name: string
  readonly type: number
  readonly frameHex: string
}

export const goldenFrames = (): readonly GoldenFrame[] =>
  (fixture('frames') as unknown as { readonly frames: readonly GoldenFrame[] }).frames

export const helloOf = (identity: Identity, nonce: string): Hello => ({
  nonce,
  protocol: GUEST_PROTOCOL,
  agentVersion: 'hostile',
  role: 'serve',
  uptimeUs: 1,
  ...identity,
})

/** How long an engine that was just restarted may take until it listens for its sandboxes again. */
const LISTENS_MS = 30_000

/** Connects as soon as an engine listens: the socket may be there from its predecessor. */
const connected = async (path: string): Promise<Socket> => {
  const deadline = performance.now() + LISTENS_MS
  for (;;) {
    const socket = connect(path)
    try {
      await once(socket, 'connect')
      return socket
    } catch (error) {
      if (performance.now() > deadline) throw error
      await setTimeout(50)
    }
  }
}

/** Dials an engine's socket and reads its nonce. What happens on the socket afterwards is the caller's. */
export const dialIn = async (path: string): Promise<{ readonly socket: Socket; readonly nonce: string }> => {
  const socket = await connected(path)
  // An engine that hangs up is what most cases wait for.
  socket.on('error', () => undefined)
  const [line] = (await once(socket, 'data')) as [Buffer]
  socket.pause()
  return { socket, nonce: line.toString().trim().split(' ')[1] ?? '' }
}

export const sendHello = (socket: Socket, value: unknown): void => void socket.write(`PYRO ${JSON.stringify(value)}\n`)

/** Settles when the engine has hung up. */
export const hungUp = async (socket: Socket): Promise<void> => {
  socket.resume()
  if (!socket.closed) await new Promise<void>((resolve) => socket.once('close', () => resolve()))
}

/** Speaks HTTP/2 as the agent does, and answers what it likes. */
export class FakeAgent implements Disposable {
  readonly socket: Socket
  readonly #server: Http2Server

  private constructor(socket: Socket, answer: Answer) {
    this.socket = socket
    this.#server = createServer()
    this.#server.on('stream', (stream, headers) => {
      // The engine may reset any stream, and ends the link of an agent that misbehaves.
      stream.on('error', () => undefined)
      void answer(stream, String(headers[':path']), () => buffer(stream))
    })
    this.#server.on('sessionError', () => undefined)
    this.#server.emit('connection', socket)
    socket.resume()
  }

  static async dial(path: string, identity: Identity, answer: Answer): Promise<FakeAgent> {
    const { socket, nonce } = await dialIn(path)
    sendHello(socket, helloOf(identity, nonce))
    return new FakeAgent(socket, answer)
  }

  [Symbol.dispose](): void {
    this.socket.destroy()
    this.#server.close()
  }
}

/** An answer with this body. */
export const answering =
  (body: string | Uint8Array, status = 200): Answer =>
  (stream) => {
    stream.respond({ ':status': status })
    stream.end(body)
  }
