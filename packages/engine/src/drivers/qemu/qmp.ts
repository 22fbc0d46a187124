import { connect, type Socket } from 'node:net'
import { sleep } from '../../lib/wait.ts'
import { PyroError } from '@pyro/protocol'
import { z } from 'zod'

/** A program that a guest may have taken over talks here: what it says is bounded. */
const LINE_LIMIT_BYTES = 256 * 1024
const CONNECT_STEP_MS = 2
const LONGEST_STEP_MS = 100
const ANSWER_TIMEOUT_MS = 5_000

const greeting = z.object({ QMP: z.object({}) })
const message = z.object({
  id: z.int().optional(),
  return: z.unknown().optional(),
  error: z.object({ class: z.string(), desc: z.string() }).optional(),
  event: z.string().optional(),
})

/** A client of QEMU's machine protocol (docs/interop/qmp-spec): one command at a time, events are passed over. */
export class Qmp implements Disposable {
  readonly #socket: Socket
  readonly #lines: AsyncIterator<string>
  #serial = 0

  private constructor(socket: Socket) {
    this.#socket = socket
    this.#lines = linesOf(socket)
  }

  /** Tries until somebody listens. */
  static async connect(path: string, signal: AbortSignal): Promise<Qmp> {
    const socket = await dial(path, signal)
    // A VMM that a guest has taken over may talk for ever.
    const end = (): void => void socket.destroy(signal.reason as Error)
    signal.addEventListener('abort', end, { once: true })
    socket.once('close', () => signal.removeEventListener('abort', end))
    const qmp = new Qmp(socket)
    try {
      greeting.parse(JSON.parse(await qmp.#line()))
      await qmp.execute('qmp_capabilities', {}, z.object({}))
      return qmp
    } catch (error) {
      qmp[Symbol.dispose]()
      throw error
    }
  }

  async execute<T>(command: string, args: Record<string, unknown>, answer: z.ZodType<T>): Promise<T> {
    const id = (this.#serial += 1)
    this.#socket.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`)
    for (;;) {
      const said = message.parse(JSON.parse(await this.#line()))
      if (said.event !== undefined || said.id !== id) continue
      if (said.error !== undefined) throw new PyroError('internal', `qemu refused ${command}: ${said.error.desc}`)
      return answer.parse(said.return)
    }
  }

  [Symbol.dispose](): void {
    this.#socket.destroy()
  }

  async #line(): Promise<string> {
    const late = setTimeout(() => this.#socket.destroy(new Error('qemu does not answer')), ANSWER_TIMEOUT_MS)
    try {
      const { value, done } = await this.#lines.next()
      if (done === true) throw new PyroError('sandbox.unreachable', 'qemu closed its control socket')
      return value
    } finally {
      clearTimeout(late)
    }
  }
}

const dial = async (path: string, signal: AbortSignal): Promise<Socket> => {
  for (let pauseMs = CONNECT_STEP_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_STEP_MS)) {
    signal.throwIfAborted()
    const socket = connect(path)
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    socket.once('connect', resolve)
    socket.once('error', reject)
    try {
      await promise
      return socket
    } catch {
      socket.destroy()
      await sleep(pauseMs, signal)
    }
  }
}

async function* linesOf(socket: Socket): AsyncGenerator<string, void, undefined> {
  let rest = ''
  for await (const chunk of socket.setEncoding('utf8') as AsyncIterable<string>) {
    rest += chunk
    for (let end = rest.indexOf('\n'); end >= 0; end = rest.indexOf('\n')) {
      yield rest.slice(0, end)
      rest = rest.slice(end + 1)
    }
    if (rest.length > LINE_LIMIT_BYTES) throw new PyroError('internal', 'a line of qemu is too long')
  }
}
