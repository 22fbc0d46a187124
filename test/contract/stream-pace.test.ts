import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, request } from 'node:http'
import { connect, type Server, type Socket, createServer as createSocketServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { FRAME, FrameDecoder } from '@pyro/protocol'
import { describe, expect, test } from 'vitest'
import { BareOutlet } from '../../packages/engine/src/daemon/bare-outlet.ts'
import { HttpOutlet, type Outlet } from '../../packages/engine/src/daemon/outlet.ts'
import { ClientReply } from '../../packages/engine/src/daemon/reply.ts'
import { Conversation } from '../../packages/sdk/src/transport/conversation.ts'
import { FrameSender } from '../../packages/sdk/src/transport/upload.ts'

/** Around the limits at which a message, a socket or a pipe calls itself full. */
const SIZES = [1, 4096, 8191, 8192, 16_383, 16_384, 65_526, 65_530, 65_531, 65_533, 65_535, 65_536, 65_537, 1_048_576]
const BYTES = 3 * 1024 * 1024
const DEADLINE_MS = 60_000

describe('frames of any size go through to their end', () => {
  for (const size of SIZES) {
    const frames = Math.min(500, Math.ceil(BYTES / size))

    const answerOf = async (outlet: Outlet): Promise<void> => {
      const reply = new ClientReply(outlet, { stream: true, accept: undefined })
      for (let sent = 0; sent < frames; sent++) await reply.stdout(Buffer.alloc(size))
      reply.result({})
    }

    test(`as HTTP, ${size} bytes each`, { timeout: DEADLINE_MS }, async () => {
      const server = createServer((_, response) => void answerOf(new HttpOutlet(response)))
      await using listener = await Listener.open(server)
      const answer = await new Promise<AsyncIterable<Buffer>>((resolve, reject) => {
        request({ socketPath: listener.path }, resolve).once('error', reject).end()
      })
      expect(await payloadOf(answer)).toBe(frames * size)
    })

    test(`from the engine to a client, ${size} bytes each`, { timeout: DEADLINE_MS }, async () => {
      const server = createSocketServer((socket) => {
        void answerOf(new BareOutlet(socket, { http: true, keeps: false })).then(() => socket.end())
      })
      await using listener = await Listener.open(server)
      const conversation = new Conversation(listener.connect())
      const { status } = await conversation.answer()
      expect(status).toBe(101)
      expect(await payloadOf(chunksOf(conversation))).toBe(frames * size)
    })

    test(`from a client to the engine, ${size} bytes each`, { timeout: DEADLINE_MS }, async () => {
      const server = createSocketServer({ allowHalfOpen: true }, (socket) => {
        void payloadOf(socket).then((bytes) => socket.end(String(bytes)))
      })
      await using listener = await Listener.open(server)
      const socket = listener.connect()
      await new FrameSender(socket).upload({ data: () => Array.from({ length: frames }, () => Buffer.alloc(size)) })
      socket.end()
      expect(await text(socket)).toBe(String(frames * size))
    })
  }
})

/** A server on a socket of its own. */
class Listener implements AsyncDisposable {
  readonly path: string
  readonly #folder: string
  readonly #server: Server
  readonly #sockets = new Set<Socket>()

  private constructor(folder: string, server: Server) {
    this.#folder = folder
    this.#server = server
    this.path = join(folder, 'socket')
    server.on('connection', (socket) => this.#sockets.add(socket))
  }

  static async open(server: Server): Promise<Listener> {
    const listener = new Listener(mkdtempSync(join(tmpdir(), 'pyro-pace-')), server)
    await new Promise<void>((resolve) => server.listen(listener.path, resolve))
    return listener
  }

  connect(): Socket {
    const socket = connect(this.path)
    this.#sockets.add(socket)
    return socket
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    await new Promise((resolve) => this.#server.close(resolve))
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

async function* chunksOf(conversation: Conversation): AsyncGenerator<Uint8Array> {
  for (let chunks = await conversation.next(); chunks !== null; chunks = await conversation.next()) yield* chunks
}

/** Bytes of output or data in a stream of frames. */
const payloadOf = async (source: AsyncIterable<Uint8Array>): Promise<number> => {
  const decoder = new FrameDecoder()
  let bytes = 0
  for await (const chunk of source) {
    for (const { type, payload } of decoder.push(chunk)) {
      if (type === FRAME.stdout || type === FRAME.data) bytes += payload.byteLength
    }
  }
  return bytes
}
