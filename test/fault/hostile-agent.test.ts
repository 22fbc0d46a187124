import { once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import { FRAME, frameHeader } from '@pyro/protocol'
import { describe, expect, it } from 'vitest'
import type { AgentClient } from '../../packages/engine/src/agent/agent-client.ts'
import {
  answering,
  dialIn,
  FakeAgent,
  fixture,
  goldenFrames,
  helloOf,
  hungUp,
  sendHello,
  type Answer,
} from './fake-agent.ts'
import {
  blamed,
  BROKEN,
  each,
  EXIT,
  extract,
  frames,
  ID,
  json,
  PATIENCE_MS,
  readFile,
  readOut,
  STARTED,
  withAgent,
  withLink,
  writeFile,
} from './hostile-link.ts'

describe('the hello of a hostile agent', () => {
  it('is refused when it does not fit its schema, and the sandbox is named', async () => {
    const wrong = fixture('hello').invalid.filter(({ name }) => !name.startsWith('nonce'))
    await each(wrong, async ({ value }) => {
      await withLink(async ({ link, path }) => {
        const { socket, nonce } = await dialIn(path)
        const own = typeof value === 'object' && value !== null ? { ...value, nonce } : value
        sendHello(socket, own)
        socket.end()
        await hungUp(socket)
        expect(link.connected).toBe(false)
        await expect(link.session({ timeoutMs: 1 })).rejects.toMatchObject(blamed())
      })
    })
  })

  it('is refused with another token, sandbox, role or boot id, and the right one is taken', async () => {
    await withLink(async ({ link, path }) => {
      const wrong = [{ token: 'b'.repeat(64) }, { token: '' }, { sandboxId: 'ws-mnopqrstuvwx-g1' }, { role: 'egress' }]
      for (const change of wrong) {
        const { socket, nonce } = await dialIn(path)
        sendHello(socket, { ...helloOf(ID, nonce), ...change })
        await hungUp(socket)
        expect(link.lastFault).toMatchObject(blamed('the dial-in was refused'))
      }
      using fake = await FakeAgent.dial(path, ID, answering('{}'))
      await link.session({ timeoutMs: PATIENCE_MS })
      fake[Symbol.dispose]()
      const { socket, nonce } = await dialIn(path)
      sendHello(socket, helloOf({ ...ID, bootId: 'boot-2' }, nonce))
      await hungUp(socket)
      expect(link.lastFault).toMatchObject(blamed('its boot id has changed'))
    })
  })

  it('of another version of Pyro is named to whoever waits, and comes after, until the right one is there', async () => {
    await withLink(async ({ link, path }) => {
      const waiting = link.session({ timeoutMs: PATIENCE_MS })
      const { socket, nonce } = await dialIn(path)
      sendHello(socket, { ...helloOf(ID, nonce), protocol: 2 })
      await expect(waiting).rejects.toMatchObject(blamed('another version of Pyro \\(guest protocol 2, not'))
      await expect(link.session({ timeoutMs: PATIENCE_MS })).rejects.toMatchObject(blamed('another version'))
      expect(link.other).toMatchObject({ hint: expect.stringContaining('pyro workspace stop WS') })
      await hungUp(socket)
      using fake = await FakeAgent.dial(path, ID, answering('{}'))
      await expect.poll(() => link.connected).toBe(true)
      expect(link.other).toBeNull()
      fake[Symbol.dispose]()
    })
  })

  it('of another version that does not know the token is refused like anybody', async () => {
    await withLink(async ({ link, path }) => {
      const { socket, nonce } = await dialIn(path)
      sendHello(socket, { ...helloOf(ID, nonce), token: 'b'.repeat(64), protocol: 2 })
      await hungUp(socket)
      expect(link.lastFault).toMatchObject(blamed('the dial-in was refused'))
      expect(link.other).toBeNull()
    })
  })

  it('is refused when it is cut at any byte, and taken behind what an older session left', async () => {
    const line = `PYRO ${JSON.stringify(helloOf(ID, '0'.repeat(32)))}\n`
    await each(
      Array.from({ length: line.length - 1 }, (_, index) => index),
      async (cut) => {
        await withLink(async ({ link, path }) => {
          const { socket, nonce } = await dialIn(path)
          socket.end(line.replace('0'.repeat(32), nonce).slice(0, cut))
          await hungUp(socket)
          expect(link.connected).toBe(false)
        })
      },
    )
    const before = ['PYRO {"nonce":"00000000000000000000000000000000"}\n', 'PYRO {\n', '\0'.repeat(60_000)]
    await each(before, async (rest) => {
      await withLink(async ({ link, path }) => {
        const { socket, nonce } = await dialIn(path)
        socket.write(rest)
        sendHello(socket, helloOf(ID, nonce))
        await link.session({ timeoutMs: PATIENCE_MS })
        socket.destroy()
      })
    })
  })

  it('is not waited for for ever, nor read for ever', async () => {
    await withLink(async ({ link, path }) => {
      const silent = await dialIn(path)
      const endless = await dialIn(path)
      const flood = setInterval(() => endless.socket.write('x'.repeat(16_384)), 5)
      await Promise.all([hungUp(silent.socket), hungUp(endless.socket)])
      clearInterval(flood)
      expect(link.lastFault).toMatchObject(blamed('no hello from the agent'))
    })
  })

  it('is read of four at a time; more are turned away, and none of them disturbs a session', async () => {
    await withLink(async ({ link, path }) => {
      using _fake = await FakeAgent.dial(path, ID, answering(JSON.stringify(fixture('agent-status').valid[0]?.value)))
      const session = await link.session({ timeoutMs: PATIENCE_MS })
      const crowd = await Promise.all(Array.from({ length: 4 }, () => dialIn(path)))
      const fifth = connect(path)
      await once(fifth, 'close')
      expect(await link.agent.status()).toMatchObject({})
      for (const { socket } of crowd) socket.destroy()
      expect(session.open).toBe(true)
    })
  })

  it('of a second link with the right token takes the place of the first', async () => {
    await withLink(async ({ link, path }) => {
      using first = await FakeAgent.dial(path, ID, () => undefined)
      await link.session({ timeoutMs: PATIENCE_MS })
      const call = link.agent.flush({ timeoutMs: PATIENCE_MS })
      call.catch(() => undefined)
      await pause(50)
      using _second = await FakeAgent.dial(path, ID, answering('{}'))
      await hungUp(first.socket)
      await expect(call).rejects.toMatchObject(blamed('a newer link took its place'))
      await link.agent.flush()
    })
  })
})

describe('an answer of a hostile agent', () => {
  const messages: readonly {
    readonly fixture: string
    readonly answer: (value: unknown) => Answer
    readonly call: (agent: AgentClient) => Promise<unknown>
    /** What becomes of an answer that fits: most are results, errors are errors of the catalogue. */
    readonly valid?: 'rejects'
  }[] = [
    { fixture: 'agent-status', answer: json, call: (agent) => agent.status() },
    { fixture: 'command-listing', answer: json, call: (agent) => agent.commands() },
    { fixture: 'read-file-result', answer: json, call: readFile },
    {
      fixture: 'write-file-result',
      answer: json,
      call: writeFile,
    },
    { fixture: 'extract-result', answer: (value) => answering(frames([FRAME.result, value])), call: extract },
    {
      fixture: 'guest-progress',
      answer: (value) => answering(frames([FRAME.event, value], [FRAME.result, { files: 0, bytes: 0, deleted: 0 }])),
      call: extract,
    },
    {
      fixture: 'command-event',
      answer: (value) => answering(frames([FRAME.event, value], [FRAME.result, EXIT])),
      call: readOut,
    },
    { fixture: 'command-exit', answer: (value) => answering(frames(STARTED, [FRAME.result, value])), call: readOut },
    {
      fixture: 'agent-error-body',
      answer: (value) => json(value, 500),
      call: (agent) => agent.flush(),
      valid: 'rejects',
    },
    {
      fixture: 'agent-error',
      answer: (value) => answering(frames([FRAME.error, value])),
      call: readOut,
      valid: 'rejects',
    },
  ]

  it.each(messages)('ends the link when it does not fit $fixture, and is taken when it does', async (message) => {
    const { valid, invalid } = fixture(message.fixture)
    await each(invalid, async ({ value }) => {
      await withAgent(message.answer(value), async (agent, { link }) => {
        await expect(message.call(agent)).rejects.toMatchObject(blamed(BROKEN))
        expect(link.connected).toBe(false)
      })
    })
    await each(valid, async ({ value }) => {
      await withAgent(message.answer(value), async (agent, { link }) => {
        const outcome = await message.call(agent).then(
          () => 'resolves',
          () => 'rejects',
        )
        expect(outcome).toBe(message.valid ?? 'resolves')
        expect(link.connected).toBe(true)
      })
    })
  })

  it('that is empty where nothing is expected is refused with anything in it', async () => {
    for (const body of ['{"a":1}', '[]', 'null', '', '{', '\xff', '[['.repeat(30_000)]) {
      await withAgent(answering(Buffer.from(body, 'latin1')), async (agent) => {
        await expect(agent.flush()).rejects.toMatchObject(blamed(BROKEN))
      })
    }
  })

  it('is refused when it is cut at any byte, ended or dropped', async () => {
    const whole = Buffer.from(JSON.stringify(fixture('agent-status').valid[0]?.value))
    await each([...whole.keys()], async (cut) => {
      await withAgent(answering(whole.subarray(0, cut)), (agent) =>
        expect(agent.status()).rejects.toMatchObject(blamed()),
      )
    })
    const stream = frames(STARTED, [FRAME.stdout, Buffer.from('out')], [FRAME.result, EXIT])
    await each([...stream.keys()], async (cut) => {
      await withAgent(answering(stream.subarray(0, cut)), (agent) =>
        expect(readOut(agent)).rejects.toMatchObject(blamed()),
      )
      await withAgent(
        (open) => {
          open.respond({ ':status': 200 })
          open.write(stream.subarray(0, cut), () => open.destroy())
        },
        (agent) => expect(readOut(agent)).rejects.toMatchObject({ code: 'sandbox.unreachable' }),
      )
    })
  })

  it('is refused with a golden frame that does not belong there, and with each one cut at any byte', async () => {
    const golden = goldenFrames().map(({ name, type, frameHex }) => ({
      name,
      type,
      bytes: Buffer.from(frameHex, 'hex'),
    }))
    const foreign = golden.filter(({ name }) => ['input', 'stdin', 'data', 'control'].includes(name))
    expect(foreign.length).toBeGreaterThanOrEqual(4)
    await each(foreign, async ({ bytes }) => {
      await withAgent(answering(Buffer.concat([frames(STARTED), bytes])), (agent) =>
        expect(readOut(agent)).rejects.toMatchObject(blamed(BROKEN)),
      )
    })
    const cuts = golden.flatMap(({ bytes }) =>
      [...bytes.keys()].filter((at) => at < 300).map((at) => bytes.subarray(0, at)),
    )
    await each(cuts, async (bytes) => {
      await withAgent(answering(Buffer.concat([frames(STARTED), bytes])), (agent) =>
        expect(readOut(agent)).rejects.toMatchObject(blamed(BROKEN)),
      )
    })
    const malformed = [
      Buffer.from([0xff, 0, 0, 0, 0]),
      Buffer.from([FRAME.stdout, 0xff, 0xff, 0xff, 0xff]),
      Buffer.from(frameHeader(FRAME.result, 64 * 1024 + 1)),
    ]
    await each(malformed, async (bytes) => {
      await withAgent(answering(Buffer.concat([frames(STARTED), bytes])), (agent) =>
        expect(readOut(agent)).rejects.toMatchObject(blamed(BROKEN)),
      )
    })
  })

  it('that never comes is waited for until the deadline of its call', async () => {
    await withAgent(
      () => undefined,
      async (agent, { link }) => {
        await expect(agent.status({ timeoutMs: 100 })).rejects.toMatchObject(blamed('no answer to'))
        await expect(agent.attach('cmd-a', 0, { timeoutMs: 100 })).rejects.toMatchObject(blamed('no answer to'))
        expect(link.connected).toBe(true)
      },
    )
  })

  it('comes with headers of its own and ends the link', async () => {
    const hostile: Answer[] = [
      (stream) => stream.additionalHeaders({ ':status': 103 }),
      (stream) => stream.pushStream({ ':path': '/v1/push' }, () => undefined),
      (stream) => stream.respond(Object.fromEntries(Array.from({ length: 40 }, (_, index) => [`h${index}`, 'x']))),
      (stream) => stream.respond({ huge: 'x'.repeat(32 * 1024) }),
    ]
    await each(hostile, async (answer) => {
      const safely: Answer = (stream, path, body) => {
        try {
          return answer(stream, path, body)
        } catch (error) {
          // Node's own server refuses to push to a client that has said no.
          stream.destroy(error as Error)
        }
      }
      await withAgent(safely, (agent) =>
        expect(agent.status({ timeoutMs: 2_000 })).rejects.toMatchObject({ code: 'sandbox.unreachable' }),
      )
    })
  })
})
