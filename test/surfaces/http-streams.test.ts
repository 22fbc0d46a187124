import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { request } from 'node:http'
import { connect, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { encodeFrame, encodeJsonFrame, FRAME, FrameDecoder, FRAMES_CONTENT_TYPE, frameName } from '@pyro/protocol'
import { socketOfHome, type Workspace } from '@pyro/sdk'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { tarOf } from '../support/tar.ts'
import { ENVIRONMENT, until, World } from '../support/world.ts'

/** Output on both streams, bytes that are no text, and standard input. */
const COMMAND = { command: String.raw`printf 'a\377'; printf e >&2; cat; exit 3`, stdin: true }
/** Several times what an engine takes for itself. */
const FLOOD_MIB = 400
const EXEC = '/v1/workspaces/streams/exec'

let world: World
let ws: Workspace
beforeAll(async () => {
  world = await World.open()
  ws = await world.pyro.workspaces.create({ environment: ENVIRONMENT, driver: 'runc', name: 'streams' })
})
afterAll(() => world[Symbol.asyncDispose]())

interface Heard {
  readonly stdout: string
  readonly stderr: string
  readonly result: unknown
  readonly error: unknown
}

/** What frames say, put together. */
const heardIn = (frames: Iterable<{ readonly frame: string; readonly bytes: Uint8Array }>): Heard => {
  const of = { stdout: '', stderr: '', result: null as unknown, error: null as unknown }
  for (const { frame, bytes } of frames) {
    const buffer = Buffer.from(bytes)
    if (frame === 'stdout' || frame === 'stderr') of[frame] += buffer.toString('latin1')
    if (frame === 'result' || frame === 'error') of[frame] = JSON.parse(buffer.toString())
  }
  return of
}

const decoded = (bytes: Uint8Array) =>
  [...new FrameDecoder().push(bytes)].map(({ type, payload }) => ({ frame: String(frameName(type)), bytes: payload }))

const framesOfCommand = (): Buffer =>
  Buffer.concat([
    encodeJsonFrame(FRAME.input, COMMAND),
    encodeFrame(FRAME.stdin, Buffer.from('typed')),
    encodeFrame(FRAME.stdin, new Uint8Array(0)),
  ])

const EXPECTED = { stdout: 'a\u00FFtyped', stderr: 'e', result: { exitCode: 3, stdoutBytes: 7 }, error: null }

/** `curl --unix-socket … --data-binary …` */
const overHttp = async (path: string, headers: Record<string, string>, body: Uint8Array): Promise<Buffer> => {
  const call = request({ socketPath: socketOfHome(world.home), method: 'POST', path, headers })
  call.end(body)
  const [response] = (await once(call, 'response')) as [AsyncIterable<Buffer>]
  const chunks: Buffer[] = []
  for await (const chunk of response) chunks.push(chunk)
  return Buffer.concat(chunks)
}

interface Head {
  readonly path?: string
  readonly upgrade?: string
  readonly method?: string
}

/** A connection that has asked for an upgrade, as anybody could. */
const bare = ({ path = EXEC, upgrade = 'pyro-frames', method = 'POST' }: Head, ...body: Uint8Array[]): Socket => {
  const socket = connect(socketOfHome(world.home))
  socket.write(`${method} ${path} HTTP/1.1\r\nhost: pyro\r\nconnection: upgrade\r\nupgrade: ${upgrade}\r\n\r\n`)
  for (const piece of body) socket.write(piece)
  return socket
}

const answerTo = async (socket: Socket): Promise<{ readonly head: string; readonly rest: Buffer }> => {
  const bytes = Buffer.from(await text(socket.setEncoding('latin1')), 'latin1')
  const end = bytes.indexOf('\r\n\r\n')
  return { head: bytes.toString('latin1', 0, end), rest: bytes.subarray(end + 4) }
}

describe('a stream over HTTP, for whoever has curl', () => {
  test('is frames in the body, both ways', async () => {
    const answer = await overHttp(EXEC, { 'content-type': FRAMES_CONTENT_TYPE }, framesOfCommand())
    expect(heardIn(decoded(answer))).toMatchObject(EXPECTED)
  })

  test('is JSON lines when these are accepted', async () => {
    const headers = { 'content-type': FRAMES_CONTENT_TYPE, accept: 'application/x-ndjson' }
    const lines = (await overHttp(EXEC, headers, framesOfCommand())).toString().trimEnd().split('\n')
    const frames = lines.map((line) => {
      const { frame, base64, value } = JSON.parse(line) as { frame: string; base64?: string; value?: unknown }
      const bytes = base64 === undefined ? Buffer.from(JSON.stringify(value)) : Buffer.from(base64, 'base64')
      return { frame, bytes }
    })
    expect(heardIn(frames)).toMatchObject(EXPECTED)
  })

  test('takes plain JSON where nothing is sent beside it', async () => {
    const body = Buffer.from(JSON.stringify({ command: ['true'] }))
    const answer = await overHttp(EXEC, { 'content-type': 'application/json' }, body)
    expect(heardIn(decoded(answer)).result).toMatchObject({ exitCode: 0 })
  })

  test('is HTTP also for a client that offers another protocol', async () => {
    const headers = { 'content-type': 'application/json', connection: 'upgrade, http2-settings', upgrade: 'h2c' }
    const answer = await overHttp(EXEC, headers, Buffer.from(JSON.stringify({ command: ['true'] })))
    expect(heardIn(decoded(answer)).result).toMatchObject({ exitCode: 0 })
  })

  test('takes an archive', async () => {
    const frames = [
      encodeJsonFrame(FRAME.input, { dest: '/root' }),
      encodeFrame(FRAME.data, tarOf([{ name: 'pushed', content: Buffer.from('over HTTP') }])),
      encodeFrame(FRAME.data, new Uint8Array(0)),
    ]
    const path = '/v1/workspaces/streams/push'
    const answer = await overHttp(path, { 'content-type': FRAMES_CONTENT_TYPE }, Buffer.concat(frames))
    expect(heardIn(decoded(answer)).result).toMatchObject({ files: 1 })
    expect((await ws.exec('cat /root/pushed')).stdout).toBe('over HTTP')
  })
})

describe('a stream on the bare connection', () => {
  test('is frames both ways behind a switch of protocols', async () => {
    const { head, rest } = await answerTo(bare({}, framesOfCommand()))
    expect(head).toMatch(/^HTTP\/1\.1 101 Switching Protocols\r\n/)
    expect(head).toContain('\r\nupgrade: pyro-frames')
    expect(heardIn(decoded(rest))).toMatchObject(EXPECTED)
  })

  test('leaves no connection open in the engine, however a client ends', async () => {
    const { pid } = await world.pyro.engine.status()
    const open = (): number => readdirSync(`/proc/${pid}/fd`).length
    await world.pyro.doctor()
    const before = open()
    for (let round = 0; round < 20; round++) {
      const refused = bare({ path: '/v1/workspaces', method: 'GET' }, Buffer.alloc(3_000))
      await once(refused, 'data')
      refused.destroy()
      await answerTo(bare({}, framesOfCommand()))
    }
    await expect.poll(open, { timeout: 60_000 }).toBeLessThanOrEqual(before + 2)
  })

  test('keeps nothing of signals that nobody waits for', async () => {
    const { pid } = await world.pyro.engine.status()
    const residentKib = (): number =>
      Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0)
    const sleeping = await ws.exec('sleep 600', { detach: true })
    const input = encodeJsonFrame(FRAME.input, { commandId: sleeping.commandId, follow: true })
    const socket = bare({ path: '/v1/workspaces/streams/logs' }, input)
    socket.on('error', () => undefined)
    const signal = encodeJsonFrame(FRAME.control, { type: 'signal', signal: 'INT', pad: 'x'.repeat(1_000) })
    const mebibyte = Buffer.concat(Array.from({ length: 1_024 }, () => signal))
    const before = residentKib()
    for (let sent = 0; sent < FLOOD_MIB && !socket.destroyed; sent++) {
      if (!socket.write(mebibyte)) await Promise.race([once(socket, 'drain'), once(socket, 'close')])
    }
    expect(residentKib() - before).toBeLessThan((FLOOD_MIB / 2) * 1024)
    socket.destroy()
    await sleeping.kill('KILL')
  })

  test('arrives in any pieces', async () => {
    const frames = framesOfCommand()
    const socket = bare({})
    for (const byte of frames) {
      socket.write(Uint8Array.of(byte))
      await new Promise(setImmediate)
    }
    expect(heardIn(decoded((await answerTo(socket)).rest))).toMatchObject(EXPECTED)
  })

  test.each<[what: string, status: number, code: string, head: Head, body: Uint8Array]>([
    ['of a call with one answer', 400, 'input.invalid', { path: '/v1/workspaces', method: 'GET' }, new Uint8Array(0)],
    ['of an unknown path', 400, 'input.invalid', { path: '/v1/nosuch' }, new Uint8Array(0)],
    [
      'of a workspace that is not there',
      404,
      'workspace.not-found',
      { path: '/v1/workspaces/nobody/exec' },
      encodeJsonFrame(FRAME.input, { command: 'true' }),
    ],
    ['that goes on without frames', 400, 'input.invalid', {}, Buffer.from('{"command":"true"}')],
    ['with a frame of data first', 400, 'input.invalid', {}, encodeFrame(FRAME.data, Buffer.from('x'))],
    ['with unknown fields', 400, 'input.invalid', {}, encodeJsonFrame(FRAME.input, { command: 'true', shell: true })],
  ])('%s is refused with %i %s as one document', async (_what, status, code, head, body) => {
    const answer = await answerTo(bare(head, body))
    expect(answer.head).toMatch(new RegExp(`^HTTP/1.1 ${status} `))
    expect(JSON.parse(answer.rest.toString())).toMatchObject({ error: { code } })
  })

  test.each([
    ['closes', (socket: Socket) => socket.destroy()],
    ['ends its side', (socket: Socket) => socket.end()],
  ])('of a client that %s lets go of it; its command goes on', async (_what, leave) => {
    const command = { command: 'echo up; sleep 0.5; echo done > /tmp/went-on' }
    await ws.exec('rm -f /tmp/went-on')
    const socket = bare({}, encodeJsonFrame(FRAME.input, command))
    await once(socket, 'data')
    const closed = once(socket, 'close')
    leave(socket)
    socket.resume()
    await closed
    expect(await world.pyro.engine.status()).toMatchObject({ running: true })
    await until(async () => (await ws.exec('cat /tmp/went-on')).stdout === 'done\n', 'the command to go on to its end')
  })

  test('of a client that leaves while it uploads changes nothing', async () => {
    const head = encodeJsonFrame(FRAME.input, { dest: '/root/half' })
    const socket = bare(
      { path: '/v1/workspaces/streams/push' },
      head,
      encodeFrame(FRAME.data, tarOf([{ name: 'half', content: Buffer.from('x') }]).subarray(0, 600)),
    )
    await once(socket, 'connect')
    socket.end()
    await once(socket.resume(), 'close')
    expect((await ws.exec('ls -A /root')).stdout).not.toContain('half')
  })
})
