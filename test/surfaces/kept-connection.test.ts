import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readlinkSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { encodeFrame, encodeJsonFrame, FRAME, FrameDecoder, frameName, type FrameType } from '@pyro/protocol'
import { socketOfHome, type Workspace } from '@pyro/sdk'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ENVIRONMENT, World } from '../support/world.ts'

const HEAD_END = '\r\n\r\n'
/** More than a command takes, and less than a request. */
const LONG_ARGUMENT_BYTES = 3 * 1024 * 1024
/** Several frames of the largest size. */
const STRAY_BYTES = 3 * 1024 * 1024

let world: World
let ws: Workspace
beforeAll(async () => {
  world = await World.open()
  ws = await world.pyro.workspaces.create({ environment: ENVIRONMENT, driver: 'runc', name: 'kept' })
})
afterAll(() => world[Symbol.asyncDispose]())

interface Heard {
  readonly frame: string
  readonly value: unknown
}

/** A connection that asked to be kept, as anybody could. */
class Kept implements Disposable {
  readonly socket: Socket
  readonly #chunks: AsyncIterator<Buffer>
  readonly #decoder = new FrameDecoder()
  readonly #frames: Heard[] = []

  private constructor(socket: Socket) {
    this.socket = socket
    this.#chunks = socket[Symbol.asyncIterator]() as AsyncIterator<Buffer>
  }

  /** The first call, whose head is HTTP. */
  static async open(input: unknown): Promise<{ readonly kept: Kept; readonly head: string; readonly answer: Heard[] }> {
    const socket = connect(socketOfHome(world.home))
    const upgrade = 'connection: upgrade\r\nupgrade: pyro-frames\r\npyro-connection: keep'
    socket.write(`POST /v1/workspaces/kept/exec HTTP/1.1\r\nhost: pyro\r\n${upgrade}${HEAD_END}`)
    const kept = new Kept(socket)
    kept.send(FRAME.input, input)
    let begun = Buffer.alloc(0)
    while (!begun.includes(HEAD_END)) begun = Buffer.concat([begun, await kept.#chunk()])
    const end = begun.indexOf(HEAD_END) + HEAD_END.length
    kept.#take(begun.subarray(end))
    return { kept, head: begun.toString('latin1', 0, end), answer: await kept.answer() }
  }

  send(type: FrameType, value: unknown): void {
    this.socket.write(encodeJsonFrame(type, value))
  }

  call(operation: unknown, input: unknown, requestId?: unknown): Promise<Heard[]> {
    this.send(FRAME.head, { operation, 'pyro-request': requestId })
    this.send(FRAME.input, input)
    return this.answer()
  }

  /** Frames up to the one that ends the answer. */
  async answer(): Promise<Heard[]> {
    for (;;) {
      const end = this.#frames.findIndex(({ frame }) => frame === 'result' || frame === 'error')
      if (end >= 0) return this.#frames.splice(0, end + 1)
      this.#take(await this.#chunk())
    }
  }

  #take(chunk: Buffer): void {
    for (const { type, payload } of this.#decoder.push(chunk)) {
      const said = Buffer.from(payload).toString()
      const isText = type === FRAME.stdout || type === FRAME.stderr
      this.#frames.push({ frame: String(frameName(type)), value: isText ? said : (JSON.parse(said) as unknown) })
    }
  }

  async #chunk(): Promise<Buffer> {
    const { value, done } = await this.#chunks.next()
    if (done === true) throw new Error('the engine has ended the connection')
    return value
  }

  [Symbol.dispose](): void {
    this.socket.destroy()
  }
}

const echo = (word: string) => ({ workspace: 'kept', command: `echo ${word}` })

const stdoutOf = (answer: readonly Heard[]): string =>
  answer.map(({ frame, value }) => (frame === 'stdout' ? String(value) : '')).join('')

describe('a connection that is kept', () => {
  test('says so, and takes one call after another', async () => {
    const { kept, head, answer } = await Kept.open({ command: 'echo first' })
    using _ = kept
    expect(head).toContain('\r\npyro-connection: keep\r\n')
    expect(stdoutOf(answer)).toBe('first\n')
    for (const word of ['second', 'third', 'fourth']) {
      const next = await kept.call('workspace.exec', echo(word))
      expect(next.map(({ frame }) => frame)).toEqual(['event', 'stdout', 'result'])
      expect(stdoutOf(next)).toBe(`${word}\n`)
    }
    const logs = await kept.call('workspace.logs', { workspace: 'kept', follow: false })
    expect(stdoutOf(logs)).toBe('fourth\n')
  })

  test('takes standard input and signals of each call', async () => {
    const { kept } = await Kept.open({ command: 'true' })
    using _ = kept
    kept.send(FRAME.head, { operation: 'workspace.exec' })
    kept.send(FRAME.input, { workspace: 'kept', command: 'cat', stdin: true })
    kept.socket.write(encodeFrame(FRAME.stdin, Buffer.from('typed')))
    kept.socket.write(encodeFrame(FRAME.stdin, new Uint8Array(0)))
    expect(stdoutOf(await kept.answer())).toBe('typed')
    kept.send(FRAME.head, { operation: 'workspace.exec' })
    kept.send(FRAME.input, { workspace: 'kept', command: 'sleep 600' })
    kept.send(FRAME.control, { type: 'signal', signal: 'TERM' })
    expect((await kept.answer()).at(-1)).toMatchObject({ frame: 'result', value: { signal: 'TERM' } })
  })

  test.each<[what: string, code: string, operation: unknown, input: unknown, requestId?: unknown]>([
    ['an unknown operation', 'input.invalid', 'workspace.nosuch', {}],
    ['an operation that is no text', 'input.invalid', { a: 1 }, {}],
    ['an operation within a list', 'input.invalid', ['workspace.exec'], echo('x')],
    ['an operation that cannot be a text', 'input.invalid', { toString: 1 }, {}],
    ['a name that every object has', 'input.invalid', 'constructor', {}],
    ['a call with one answer', 'input.invalid', 'workspace.list', {}],
    [
      'a workspace that is not there',
      'workspace.not-found',
      'workspace.exec',
      { workspace: 'nobody', command: 'true' },
    ],
    ['no workspace', 'input.invalid', 'workspace.exec', { command: 'true' }],
    ['unknown fields', 'input.invalid', 'workspace.exec', { ...echo('x'), shell: true }],
    ['a request id that is none', 'input.invalid', 'workspace.exec', echo('x'), 'x'.repeat(65)],
    ['a request id that is no text', 'input.invalid', 'workspace.exec', echo('x'), 7],
  ])('answers %s with %s, and goes on', async (_what, code, operation, input, requestId) => {
    const { kept } = await Kept.open({ command: 'true' })
    using _ = kept
    expect(await kept.call(operation, input, requestId)).toMatchObject([{ frame: 'error', value: { code } }])
    expect(stdoutOf(await kept.call('workspace.exec', echo('on')))).toBe('on\n')
  })

  test('answers a repeated request with what it was, not once more', async () => {
    const { kept } = await Kept.open({ command: 'rm -f /tmp/ran' })
    using _ = kept
    const input = { workspace: 'kept', command: 'echo ran >> /tmp/ran; cat /tmp/ran' }
    for (let round = 0; round < 2; round++)
      expect(stdoutOf(await kept.call('workspace.exec', input, 'asked-twice'))).toBe('ran\n')
  })

  test('drops what is sent between two calls', async () => {
    const { kept } = await Kept.open({ command: 'true' })
    using _ = kept
    kept.socket.write(encodeFrame(FRAME.stdin, Buffer.alloc(STRAY_BYTES)))
    kept.send(FRAME.control, { type: 'signal', signal: 'KILL' })
    kept.send(FRAME.input, echo('nobody asked'))
    expect(stdoutOf(await kept.call('workspace.exec', echo('asked')))).toBe('asked\n')
    const history = await ws.commands.list()
    expect(history.map(({ stdout }) => stdout)).not.toContain('nobody asked\n')
  })

  test.each<[what: string, bytes: Uint8Array]>([
    ['a call before the answer to the last', encodeJsonFrame(FRAME.head, { operation: 'workspace.exec' })],
    ['what is no frame', Buffer.from([0xff, 0, 0, 0, 0])],
  ])('ends behind the answer for %s', async (_what, bytes) => {
    const { kept } = await Kept.open({ command: 'true' })
    using _ = kept
    kept.send(FRAME.head, { operation: 'workspace.exec' })
    kept.send(FRAME.input, { workspace: 'kept', command: 'sleep 0.3; echo done' })
    kept.socket.write(bytes)
    expect(stdoutOf(await kept.answer())).toBe('done\n')
    await expect(kept.answer()).rejects.toThrow('ended')
  })

  test.each<[what: string, bytes: Uint8Array]>([
    ['no frame', Buffer.from('GET / HTTP/1.1\r\n\r\n')],
    ['a head that is no JSON', encodeFrame(FRAME.head, Buffer.from('{'))],
  ])('ends when %s comes between two calls', async (_what, bytes) => {
    const { kept } = await Kept.open({ command: 'true' })
    using _ = kept
    kept.socket.write(bytes)
    await expect(kept.answer()).rejects.toThrow('ended')
  })

  test('says in a frame that a call had to start its workspace', async () => {
    const { kept } = await Kept.open({ command: 'true' })
    using _ = kept
    await ws.stop()
    const head = { frame: 'head', value: { 'pyro-started': 'kept' } }
    const started = { frame: 'event', value: { type: 'started' } }
    expect((await kept.call('workspace.exec', echo('x'))).slice(0, 2)).toMatchObject([head, started])
    await ws.stop()
    const tooLong = { workspace: 'kept', command: ['true', 'x'.repeat(LONG_ARGUMENT_BYTES)] }
    const refused = { frame: 'error', value: { code: 'limit.exceeded' } }
    expect(await kept.call('workspace.exec', tooLong)).toMatchObject([head, refused])
  })

  test('of a client that leaves in the middle lets go of it; its command goes on', async () => {
    const { kept } = await Kept.open({ command: 'rm -f /tmp/went-on' })
    kept.send(FRAME.head, { operation: 'workspace.exec' })
    kept.send(FRAME.input, { workspace: 'kept', command: 'sleep 0.5; echo done > /tmp/went-on' })
    await new Promise((resolve) => setTimeout(resolve, 200))
    kept.socket.destroy()
    await expect.poll(async () => (await ws.exec('cat /tmp/went-on')).stdout, { timeout: 20_000 }).toBe('done\n')
  })

  test('ends with its engine at once, and calls under way get their answer', async () => {
    const idle = (await Kept.open({ command: 'true' })).kept
    const busy = (await Kept.open({ command: 'true' })).kept
    const closed = once(idle.socket.resume(), 'close')
    const answer = busy.call('workspace.exec', { workspace: 'kept', command: 'sleep 600' })
    const running = async (): Promise<boolean> => (await ws.commands.list()).some(({ state }) => state === 'running')
    await expect.poll(running, { timeout: 20_000 }).toBe(true)
    await world.pyro.engine.shutdown()
    await closed
    // An engine that leaves lets go of commands, which go on.
    expect((await answer).at(-1)).toMatchObject({ frame: 'result', value: { state: 'running' } })
    await expect(busy.answer()).rejects.toThrow('ended')
    await ws.reset()
  })
})

describe('a client', () => {
  test('goes through many streams on few connections', async () => {
    const { pid } = await world.pyro.engine.status()
    const sockets = (): Set<string> =>
      new Set(readdirSync(`/proc/${pid}/fd`).flatMap((fd) => linkOf(`/proc/${pid}/fd/${fd}`).match(/^socket:.*/) ?? []))
    await ws.exec('true')
    const before = sockets()
    for (let round = 0; round < 20; round++) {
      expect((await ws.exec(`echo ${round}`)).stdout).toBe(`${round}\n`)
      // One that was made and closed again had another number.
      expect([...sockets()].filter((socket) => !before.has(socket))).toEqual([])
    }
    await Promise.all(Array.from({ length: 40 }, () => ws.exec('true', { check: true })))
    await expect.poll(() => sockets().size, { timeout: 20_000 }).toBeLessThanOrEqual(before.size + 32)
  })

  test('ends although it has kept connections', async () => {
    const script = `
      import { Pyro } from '@pyro/sdk'
      const pyro = await Pyro.connect()
      const ws = await pyro.workspaces.get('kept')
      for (let round = 0; round < 3; round++) process.stdout.write((await ws.exec('echo ran')).stdout)`
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      env: { ...process.env, ...world.env },
      stdio: ['ignore', 'pipe', 'inherit'],
      timeout: 30_000,
    })
    expect(await text(child.stdout)).toBe('ran\nran\nran\n')
    if (child.exitCode === null) await once(child, 'exit')
    expect(child.exitCode).toBe(0)
  })

  test('reads an input that can be read once for nobody but an engine that is there', async () => {
    await ws.exec('true')
    const { pid } = await world.pyro.engine.status()
    async function* readOnce(): AsyncGenerator<Uint8Array> {
      yield Buffer.from('all of it')
    }
    process.kill(Number(pid), 'SIGKILL')
    // Nothing of this process runs meanwhile: it has not heard of the end.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500)
    expect((await ws.exec('cat', { stdin: readOnce() })).stdout).toBe('all of it')
  })

  test('goes on where a connection that it had kept is gone', async () => {
    await Promise.all(Array.from({ length: 5 }, () => ws.exec('true', { check: true })))
    await world.pyro.engine.shutdown()
    expect((await ws.exec('echo on')).stdout).toBe('on\n')
  })

  test('never gets output that was meant for a call before', async () => {
    for (let round = 0; round < 5; round++) {
      const signal = AbortSignal.timeout(150)
      await expect(ws.exec('while :; do echo noise; done', { signal })).rejects.toThrow('cancelled')
      expect((await ws.exec('echo mine')).stdout).toBe('mine\n')
    }
  })

  test('keeps nothing of a call whose input was not taken', async () => {
    async function* endless(): AsyncGenerator<Uint8Array> {
      for (;;) {
        yield Buffer.alloc(64 * 1024)
        await new Promise((resolve) => setTimeout(resolve, 10))
      }
    }
    for (let round = 0; round < 3; round++) {
      expect((await ws.exec('head -c 3 > /dev/null; echo took', { stdin: endless() })).stdout).toBe('took\n')
      expect((await ws.exec('echo next')).stdout).toBe('next\n')
    }
  })
})

const linkOf = (path: string): string => {
  try {
    return readlinkSync(path)
  } catch {
    return ''
  }
}
