import assert from 'node:assert/strict'
import { once } from 'node:events'
import { chmodSync, rmSync } from 'node:fs'
import { connect as connectHttp2 } from 'node:http2'
import { createServer, type Socket } from 'node:net'
import { dirname, join } from 'node:path'
import { duplexPair } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { agentPath, driverPlace, emptyVolume, sandboxSpec } from '@pyro/driver-testkit'
import type { Driver, Sandbox } from '@pyro/engine'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createOn } from '../support/driver-workspaces.ts'
import { World } from '../support/world.ts'

const DEADLINE_MS = 60_000
/** A machine that is there answers another engine much sooner. An engine that waits in vain for a hello gives up after 5 s. */
const BACK_WITHIN_MS = 4_500
/** What the agent would do with the rest, it has done by then. */
const SETTLE_MS = 500
const never = new AbortController().signal
const NONCE = '0123456789abcdef'.repeat(2)
/** Of HTTP/2 (RFC 9113, 4.1): nine bytes before a payload. */
const DATA = 0

describe('the port of a machine, after an engine that was cut off', () => {
  let place: Awaited<ReturnType<typeof driverPlace>>
  let driver: Driver
  let sandbox: Sandbox
  beforeAll(async () => {
    place = await driverPlace({ agentPath: agentPath(), driver: 'qemu' })
    driver = place.openDriver()
    const volume = await emptyVolume(place, driver, 'ws-link')
    const { ok, detail } = await driver.probe()
    assert.ok(ok, detail)
    sandbox = await driver.start(sandboxSpec(driver, 'ws-link', volume), { signal: never, deadlineMs: DEADLINE_MS })
  })
  afterAll(async () => {
    await sandbox.stop()
    assert.deepEqual(await driver.audit(), [])
    await place[Symbol.asyncDispose]()
  })

  /** An engine that says this on the link, and is gone. */
  const cutOff = async (say: (link: Socket) => Promise<void>): Promise<void> => {
    const { record } = sandbox
    await sandbox.release()
    const runtime = dirname(dirname(record.spec.volume.path))
    const path = join(runtime, 'sandboxes', record.spec.sandboxId, 'channel', 'engine.sock')
    const server = createServer()
    server.listen(path)
    await once(server, 'listening')
    chmodSync(path, 0o666)
    const [link] = (await once(server, 'connection')) as [Socket]
    server.close()
    await say(link)
    link.destroy()
    rmSync(path, { force: true })
  }

  const nextEngine = async (): Promise<void> => {
    driver = place.openDriver()
    sandbox = await driver.adopt(sandbox.record, { signal: never, deadlineMs: DEADLINE_MS })
  }

  const resync = async (link: Socket): Promise<void> => {
    link.write(`PYRO ${NONCE}\n`)
    let said = ''
    while (!said.includes(`"nonce":"${NONCE}"`)) {
      const chunk = link.read() as Buffer | null
      if (chunk === null) await once(link, 'readable')
      else said += chunk.toString('latin1')
    }
  }

  /** Sends a request of which the body never ends, and then part of a frame. */
  const halfRequest = async (link: Socket, path: string, body: string): Promise<void> => {
    const [client, wire] = duplexPair()
    wire.on('data', (chunk: Buffer) => link.write(chunk))
    link.on('data', (chunk: Buffer) => wire.write(chunk))
    const session = connectHttp2('http://agent', { createConnection: () => client })
    session.on('error', () => undefined)
    const stream = session.request({ ':method': 'POST', ':path': path }, { endStream: false })
    stream.on('error', () => undefined)
    await new Promise<void>((resolve) => stream.write(body, () => resolve()))
    await sleep(SETTLE_MS)
    const frame = Buffer.alloc(9)
    frame.writeUIntBE(100, 0, 3)
    frame.writeUInt8(DATA, 3)
    frame.writeUInt32BE(stream.id ?? 1, 5)
    link.write(Buffer.concat([frame, Buffer.from(' '.repeat(50))]))
    await sleep(SETTLE_MS)
    session.destroy()
  }

  const isThere = async (path: string): Promise<boolean> => {
    const all = { startLine: null, maxLines: null, offset: 0, maxBytes: 1 }
    return sandbox.agent.readFile({ root: '/', path, ...all }).then(
      () => true,
      (error: unknown) => {
        expect(error).toMatchObject({ code: 'path.not-found' })
        return false
      },
    )
  }

  test('never answers a request that was received by half, and does nothing of it', async () => {
    const edit = { dataBase64: '', oldTextBase64: null, replaceAll: false }
    const file = { root: '/', path: '/workspace/half', mode: null, ...edit }
    for (const [path, body] of [
      ['/v1/files/write', JSON.stringify(file).slice(0, -1)],
      ['/v1/commands/cmd-half/start', '{"argv":["/run/pyro/agent"],"shell":null,"cwd":"/"'],
    ] as const) {
      await cutOff(async (link) => {
        await resync(link)
        await halfRequest(link, path, body)
      })
      await nextEngine()
      await sandbox.agent.status()
      await sleep(SETTLE_MS)
      expect(await isThere('/workspace/half')).toBe(false)
      expect(await sandbox.agent.commands()).toEqual([])
    }
    await sandbox.agent.writeFile(file)
    expect(await isThere('/workspace/half')).toBe(true)
  })

  test.each([
    ['a line that was cut off', `PYRO ${NONCE.slice(0, 20)}`],
    ['a whole line, whose answer nobody read', `PYRO ${NONCE}\n`],
    ['lines that are none', `PYRO ${NONCE.toUpperCase()}\nPYRO {}\n${'x'.repeat(100_000)}PYRO `],
    ['a request without a line', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
  ])('answers the next engine with its own nonce: %s', async (_what, said) => {
    const { bootId } = sandbox.agent
    await cutOff(async (link) => {
      await new Promise<void>((resolve) => link.write(said, () => resolve()))
    })
    const begun = performance.now()
    await nextEngine()
    expect((await sandbox.agent.status()).bootId).toBe(bootId)
    expect(performance.now() - begun).toBeLessThan(BACK_WITHIN_MS)
  })
})

describe('a machine whose engine was killed', () => {
  test('answers the next one soon, and nothing of before reaches it', async () => {
    await using world = await World.open()
    await using ws = await createOn(world, 'qemu', { diskMib: 512 })
    for (let times = 1; times <= 3; times += 1) {
      // Both ways are busy when it dies.
      const busy = [
        ws.exec('head -c 16M /dev/zero | tr "\\0" x'),
        ws.exec('cat > /dev/null', { stdin: Buffer.alloc(4 * 1024 * 1024, 'y') }),
      ]
      const ends = Promise.allSettled(busy)
      await sleep(200 * times)
      await world.killEngine()
      await world.pyro.engine.start()
      const begun = performance.now()
      expect(await ws.exec(`echo ${times}`, { check: true })).toMatchObject({ stdout: `${times}\n`, stderr: '' })
      const tookMs = performance.now() - begun
      expect(tookMs).toBeLessThan(BACK_WITHIN_MS)
      await ends
    }
  })
})
