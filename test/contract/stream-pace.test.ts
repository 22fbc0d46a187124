import { mkdtempSync, rmSync } from 'node:fs'
import {
  createServer,
  request,
  type ClientRequest,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { FRAME, FrameDecoder } from '@pyro/protocol'
import { describe, expect, test } from 'vitest'
import { HttpReply } from '../../packages/engine/src/daemon/reply.ts'
import { FrameSender } from '../../packages/sdk/src/transport/upload.ts'

/** Around the limits at which a message, a socket or a pipe calls itself full. */
const SIZES = [1, 4096, 8191, 8192, 16_383, 16_384, 65_526, 65_530, 65_531, 65_533, 65_535, 65_536, 65_537, 1_048_576]
const BYTES = 3 * 1024 * 1024
const DEADLINE_MS = 5_000

describe('frames of any size go through to their end', () => {
  for (const size of SIZES) {
    const frames = Math.min(500, Math.ceil(BYTES / size))

    test(`from the engine to a client, ${size} bytes each`, { timeout: DEADLINE_MS }, async () => {
      await using listener = await Listener.open(async (_, response) => {
        const reply = new HttpReply(response, { stream: true, accept: undefined })
        for (let sent = 0; sent < frames; sent++) await reply.stdout(Buffer.alloc(size))
        reply.result({})
      })
      const { outgoing, answer } = listener.request()
      outgoing.end()
      expect(await payloadOf(await answer)).toBe(frames * size)
    })

    test(`from a client to the engine, ${size} bytes each`, { timeout: DEADLINE_MS }, async () => {
      await using listener = await Listener.open(async (incoming, response) => {
        response.end(String(await payloadOf(incoming)))
      })
      const { outgoing, answer } = listener.request()
      await new FrameSender(outgoing).upload({ data: () => Array.from({ length: frames }, () => Buffer.alloc(size)) })
      outgoing.end()
      expect(await text(await answer)).toBe(String(frames * size))
    })
  }
})

type Serve = (incoming: IncomingMessage, response: ServerResponse) => Promise<void>

/** An HTTP server on a socket of its own. */
class Listener implements AsyncDisposable {
  readonly #folder: string
  readonly #server: Server

  private constructor(folder: string, server: Server) {
    this.#folder = folder
    this.#server = server
  }

  static async open(serve: Serve): Promise<Listener> {
    const folder = mkdtempSync(join(tmpdir(), 'pyro-pace-'))
    const server = createServer((incoming, response) => void serve(incoming, response))
    await new Promise<void>((resolve) => server.listen(join(folder, 'socket'), resolve))
    return new Listener(folder, server)
  }

  request(): { readonly outgoing: ClientRequest; readonly answer: Promise<IncomingMessage> } {
    const outgoing = request({ socketPath: join(this.#folder, 'socket'), method: 'POST', path: '/' })
    const answer = new Promise<IncomingMessage>((resolve, reject) => {
      outgoing.once('response', resolve)
      outgoing.once('error', reject)
    })
    return { outgoing, answer }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise((resolve) => this.#server.close(resolve))
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

/** Bytes of output or data in a stream of frames. */
const payloadOf = async (source: IncomingMessage): Promise<number> => {
  const decoder = new FrameDecoder()
  let bytes = 0
  for await (const chunk of source as AsyncIterable<Buffer>) {
    for (const { type, payload } of decoder.push(chunk)) {
      if (type === FRAME.stdout || type === FRAME.data) bytes += payload.byteLength
    }
  }
  return bytes
}
