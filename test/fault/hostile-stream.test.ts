import { setTimeout as pause } from 'node:timers/promises'
import { encodeFrame, FRAME, frameHeader } from '@pyro/protocol'
import { isPyroError } from '@pyro/sdk'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { AgentClient } from '../../packages/engine/src/agent/agent-client.ts'
import { dialIn, helloOf, hungUp, sendHello, type Answer } from './fake-agent.ts'
import {
  blamed,
  BROKEN,
  EXIT,
  extract,
  frames,
  ID,
  PATIENCE_MS,
  readFile,
  readOut,
  STARTED,
  withAgent,
  withLink,
} from './hostile-link.ts'
import { enough } from '../support/soak.ts'

const MIB = 1024 * 1024
/** What this process may grow by while an agent floods it, its own writing included. */
const MEMORY_MIB = 200
const FUZZ_RUNS = enough({ inTests: 250, inSoak: 100_000 })
const FUZZ_MS = enough({ inTests: 60_000, inSoak: 20 * 60_000 })

/** Grows by no more than it may while `work` runs. */
const boundedMemory = async (work: () => Promise<void>): Promise<void> => {
  const before = process.memoryUsage.rss()
  let most = before
  const watch = setInterval(() => (most = Math.max(most, process.memoryUsage.rss())), 20)
  try {
    await work()
  } finally {
    clearInterval(watch)
  }
  expect((most - before) / MIB).toBeLessThan(MEMORY_MIB)
}

/** Writes the same piece for ever, as fast as the engine takes it. */
const endless =
  (first: Uint8Array, piece: Uint8Array): Answer =>
  (stream) => {
    stream.respond({ ':status': 200 })
    stream.write(first)
    const more = (): void => {
      while (!stream.destroyed && stream.write(piece)) continue
    }
    stream.on('drain', more)
    more()
  }

/** HTTP/2 as bytes, for what a library would not send. */
const SETTINGS = Buffer.from('000000040000000000', 'hex')
const h2Frame = (type: number, flags: number, stream: number, payload: Uint8Array): Buffer => {
  const header = Buffer.alloc(9)
  header.writeUIntBE(payload.byteLength, 0, 3)
  header[3] = type
  header[4] = flags
  header.writeUInt32BE(stream, 5)
  return Buffer.concat([header, payload])
}

describe('an endless answer', () => {
  it('of JSON is read up to its limit, in bounded memory', async () => {
    await boundedMemory(async () => {
      const piece = Buffer.alloc(64 * 1024, ' ')
      for (const call of [(agent: AgentClient) => agent.status(), readFile, (agent: AgentClient) => agent.commands()]) {
        await withAgent(endless(Buffer.from('{'), piece), async (agent) => {
          await expect(call(agent)).rejects.toMatchObject(blamed(BROKEN))
        })
      }
    })
  })

  it('of output waits until it is read', async () => {
    await boundedMemory(async () => {
      const piece = Buffer.from(encodeFrame(FRAME.stdout, Buffer.alloc(MIB, 'x')))
      await withAgent(endless(frames(STARTED), piece), async (agent, { link }) => {
        const output = await agent.attach('cmd-a', 0)
        const reader = output[Symbol.asyncIterator]()
        await reader.next()
        await pause(300)
        const session = await link.session({ timeoutMs: PATIENCE_MS })
        expect(session.open).toBe(true)
        // It still answers: one command that nobody reads keeps nothing else from the link.
        let bytes = 0
        while (bytes < 64 * MIB) {
          const { value } = await reader.next()
          bytes += (value as { data: Buffer }).data.length
        }
        output.detach()
      })
    })
  })

  it('of events, empty frames or progress ends, or is bounded by the reader', async () => {
    const started = Buffer.from(frames(STARTED))
    const empty = Buffer.concat(Array.from({ length: 10_000 }, () => Buffer.from(frameHeader(FRAME.stdout, 0))))
    const progress = frames([FRAME.event, { type: 'progress', files: 1, bytes: 1 }])
    await boundedMemory(async () => {
      const flooded: [Uint8Array, Uint8Array, (agent: AgentClient) => Promise<unknown>][] = [
        [started, Buffer.concat(Array.from({ length: 1_000 }, () => started)), readOut],
        [started, empty, readOut],
        [progress, Buffer.concat(Array.from({ length: 1_000 }, () => progress)), extract],
      ]
      for (const [first, piece, call] of flooded) {
        await withAgent(endless(first, piece), async (agent, { link }) => {
          const flood = call(agent)
          flood.catch(() => undefined)
          await pause(700)
          // This process is still there for everybody else.
          const begun = performance.now()
          await pause(10)
          expect(performance.now() - begun).toBeLessThan(5_000)
          await link.close()
          await expect(flood).rejects.toMatchObject({ code: 'sandbox.unreachable' })
        })
      }
    })
  })
})

describe('a flood below the answers', () => {
  const floods = {
    pings: h2Frame(6, 0, 0, Buffer.alloc(8)),
    settings: SETTINGS,
    'window updates': h2Frame(8, 0, 0, Buffer.from([0, 0, 0, 1])),
    'unknown frames': h2Frame(0xee, 0, 0, Buffer.alloc(16_000)),
    priorities: h2Frame(2, 0, 1, Buffer.from([0, 0, 0, 0, 1])),
    'empty data': h2Frame(0, 0, 1, Buffer.alloc(0)),
    resets: h2Frame(3, 0, 1, Buffer.from([0, 0, 0, 8])),
    'new streams': h2Frame(1, 4, 2, Buffer.from('88', 'hex')),
    continuations: h2Frame(9, 0, 1, Buffer.alloc(16_000, 0x82)),
  }
  it.each(Object.entries(floods))('of %s ends the link or is borne, in bounded memory', async (_name, frame) => {
    await boundedMemory(async () => {
      await withLink(async ({ link, path }) => {
        const { socket, nonce } = await dialIn(path)
        sendHello(socket, helloOf(ID, nonce))
        socket.write(SETTINGS)
        const call = link.agent.status({ timeoutMs: 3_000 })
        call.catch(() => undefined)
        await pause(20)
        const piece = Buffer.concat(Array.from({ length: Math.ceil(MIB / 4 / frame.length) }, () => frame))
        const until = performance.now() + 1_500
        while (!socket.destroyed && performance.now() < until) {
          if (!socket.write(piece))
            await Promise.race([pause(50), new Promise((resolve) => socket.once('drain', resolve))])
          await pause(0)
        }
        await expect(call).rejects.toMatchObject({ code: 'sandbox.unreachable' })
        socket.destroy()
        // The sandbox can be linked again: what was wrong with one link is over with it.
        const again = await dialIn(path)
        sendHello(again.socket, helloOf(ID, again.nonce))
        await link.session({ timeoutMs: PATIENCE_MS })
        again.socket.destroy()
      })
    })
  })

  it('of bytes that carry nothing ends the link', async () => {
    await withLink(async ({ link, path }) => {
      const { socket, nonce } = await dialIn(path)
      sendHello(socket, helloOf(ID, nonce))
      socket.write(SETTINGS)
      const session = await link.session({ timeoutMs: PATIENCE_MS })
      const piece = Buffer.concat(Array.from({ length: 16 }, () => floods['unknown frames']))
      const pump = (): void => {
        while (!socket.destroyed && socket.write(piece)) continue
      }
      socket.on('drain', pump)
      pump()
      await hungUp(socket)
      expect(session.reason).toMatchObject({ code: 'sandbox.unreachable' })
    })
  })
})

describe('whatever an agent sends', () => {
  /** Any call ends: with a result, or with an error of the catalogue. */
  const ENDS = ['result', 'error']
  const endOf = (call: Promise<unknown>): Promise<unknown> =>
    call.then(
      () => 'result',
      (error: unknown) => (isPyroError(error) ? 'error' : error),
    )
  const calls = [(agent: AgentClient) => agent.status({ timeoutMs: 200 }), readOut, extract, readFile] as const
  const options = { numRuns: FUZZ_RUNS, interruptAfterTimeLimit: FUZZ_MS, markInterruptAsFailure: false }

  it('as a hello', { timeout: 2 * FUZZ_MS }, async () => {
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 4096 }),
      fc.string({ unit: 'binary' }).map((text) => Buffer.from(text)),
    )
    await fc.assert(
      fc.asyncProperty(bytes, fc.json(), async (before, value) => {
        await withLink(async ({ link, path }) => {
          const { socket } = await dialIn(path)
          socket.write(before)
          socket.end(`PYRO ${value}\n`)
          await hungUp(socket)
          expect(link.connected).toBe(false)
        })
      }),
      options,
    )
  })

  it('as an answer', { timeout: 2 * FUZZ_MS }, async () => {
    const chunk = fc.oneof(
      fc.uint8Array({ maxLength: 2048 }),
      fc.json().map((text) => Buffer.from(text)),
      fc
        .record({ type: fc.constantFrom(...Object.values(FRAME)), payload: fc.uint8Array({ maxLength: 512 }) })
        .map(({ type, payload }) => encodeFrame(type, payload)),
      fc.constant(frames(STARTED)),
      fc.constant(frames([FRAME.result, EXIT])),
    )
    const status = fc.oneof(fc.constant(200), fc.integer({ min: 200, max: 599 }))
    await fc.assert(
      fc.asyncProperty(fc.array(chunk, { maxLength: 8 }), status, fc.nat(), async (chunks, code, pick) => {
        const answer: Answer = (stream) => {
          stream.respond({ ':status': code })
          for (const part of chunks) stream.write(part)
          stream.end()
        }
        const end = await withAgent(answer, (agent) => endOf((calls[pick % calls.length] ?? calls[0])(agent)))
        expect(ENDS).toContain(end)
      }),
      options,
    )
  })

  it('as HTTP/2', { timeout: 2 * FUZZ_MS }, async () => {
    const frame = fc
      .record({
        type: fc.integer({ min: 0, max: 12 }),
        flags: fc.integer({ min: 0, max: 255 }),
        stream: fc.constantFrom(0, 1, 2, 3, 0x7fffffff),
        payload: fc.uint8Array({ maxLength: 256 }),
      })
      .map(({ type, flags, stream, payload }) => h2Frame(type, flags, stream, payload))
    const sent = fc.array(
      fc.oneof(
        frame,
        fc.uint8Array({ maxLength: 64 }).map((bytes) => Buffer.from(bytes)),
      ),
      { maxLength: 20 },
    )
    await fc.assert(
      fc.asyncProperty(sent, fc.boolean(), async (parts, settings) => {
        await withLink(async ({ link, path }) => {
          const { socket, nonce } = await dialIn(path)
          sendHello(socket, helloOf(ID, nonce))
          if (settings) socket.write(SETTINGS)
          const call = endOf(link.agent.status({ timeoutMs: 150 }))
          for (const part of parts) socket.write(part)
          expect(ENDS).toContain(await call)
          socket.destroy()
        })
      }),
      options,
    )
  })
})
