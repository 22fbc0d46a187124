import { randomBytes, timingSafeEqual } from 'node:crypto'
import type { Socket } from 'node:net'
import { PyroError } from '@pyro/protocol'
import { GUEST_PROTOCOL, hello, type Hello } from '@pyro/protocol/guest'

/** What may stand before the hello line: the rest of an older session. */
const DISCARD_LIMIT_BYTES = 64 * 1024
const HELLO_LIMIT_BYTES = 4096
const HELLO_TIMEOUT_MS = 5_000
/**
 * Where a link is no connection (a serial port), the nonce is lost when it comes to an agent that still serves an engine which is
 * gone. Once, another one follows, and the hello has to answer that: not before such a session has ended, which takes it 1 s.
 */
const ASK_AGAIN_MS = 1_500
const MARK = Buffer.from('PYRO {')

/** The agent of the sandbox is that of another version of Pyro, and stays it as long as the sandbox runs. */
export class OtherProtocol extends PyroError {
  constructor(sandboxId: string, protocol: number) {
    const versions = `guest protocol ${protocol}, not ${GUEST_PROTOCOL}`
    super('sandbox.unreachable', `sandbox ${sandboxId}: its agent is that of another version of Pyro (${versions})`, {
      hint: 'pyro workspace stop WS; pyro workspace start WS (what runs ends, the disk is kept)',
    })
  }
}

/** Who must be at the other end. */
export interface Expected {
  readonly sandboxId: string
  readonly token: string
  /** Known after the first hello: one sandbox has one boot id. */
  readonly bootId: string | null
}

/**
 * Sends a nonce and reads the hello that answers it. Afterwards the socket stands right behind that line and is paused.
 * Rejects with `sandbox.unreachable` when what comes is not the hello of that sandbox; the caller destroys the socket.
 */
export async function resync(socket: Socket, expected: Expected): Promise<Hello> {
  const line = await readHelloLine(socket, expected.sandboxId)
  if (line.role !== 'serve') throw refused(expected, `it offers the role ${line.role}`)
  if (line.sandboxId !== expected.sandboxId || !sameText(line.token, expected.token))
    throw refused(expected, 'the token is not that of this sandbox')
  if (line.protocol !== GUEST_PROTOCOL) throw new OtherProtocol(expected.sandboxId, line.protocol)
  if (expected.bootId !== null && line.bootId !== expected.bootId) throw refused(expected, 'its boot id has changed')
  return line
}

const refused = (expected: Expected, why: string): PyroError =>
  new PyroError('sandbox.unreachable', `sandbox ${expected.sandboxId}: the dial-in was refused: ${why}`)

const sameText = (given: string, wanted: string): boolean => {
  const [a, b] = [Buffer.from(given), Buffer.from(wanted)]
  return a.length === b.length && timingSafeEqual(a, b)
}

function readHelloLine(socket: Socket, sandboxId: string): Promise<Hello> {
  const ask = (): string => {
    const fresh = randomBytes(16).toString('hex')
    socket.write(`PYRO ${fresh}\n`)
    return fresh
  }
  return new Promise((resolve, reject) => {
    let nonce = ask()
    let seen: Buffer = Buffer.alloc(0)
    // Nothing may listen any more when the rest is put back: it would be read here again.
    const settle = (): void => {
      clearTimeout(again)
      clearTimeout(deadline)
      socket.off('readable', onReadable)
      socket.off('close', onClose)
    }
    const fail = (why: string): void => {
      settle()
      reject(new PyroError('sandbox.unreachable', `sandbox ${sandboxId}: no hello from the agent: ${why}`))
    }
    const onReadable = (): void => {
      for (;;) {
        const chunk = socket.read() as Buffer | null
        if (chunk === null) return
        seen = seen.length === 0 ? chunk : Buffer.concat([seen, chunk])
        const found = findHello(seen, nonce)
        if (found === 'malformed') return fail('it is malformed')
        if (found !== null) {
          settle()
          const rest = seen.subarray(found.end)
          if (rest.length > 0) socket.unshift(rest)
          return resolve(found.line)
        }
        if (seen.length > DISCARD_LIMIT_BYTES) return fail(`not within ${DISCARD_LIMIT_BYTES} bytes`)
      }
    }
    const onClose = (): void => fail('the link was closed')
    const again = setTimeout(() => (nonce = ask()), ASK_AGAIN_MS)
    const deadline = setTimeout(() => fail(`not within ${HELLO_TIMEOUT_MS} ms`), HELLO_TIMEOUT_MS)
    socket.on('readable', onReadable)
    socket.once('close', onClose)
    onReadable()
  })
}

/** Null: not there yet. A line with another nonce answers an earlier one, of whomever, and is passed over. */
export function findHello(seen: Buffer, nonce: string): { line: Hello; end: number } | 'malformed' | null {
  let from = 0
  for (;;) {
    const start = seen.indexOf(MARK, from)
    if (start < 0) return null
    const end = seen.indexOf(0x0a, start)
    if (end < 0) return seen.length - start > HELLO_LIMIT_BYTES ? 'malformed' : null
    const line = parseHello(seen.subarray(start + MARK.length - 1, end))
    if (line?.nonce === nonce) return { line, end: end + 1 }
    if (line === null && seen.subarray(start, end).includes(nonce)) return 'malformed'
    from = end + 1
  }
}

function parseHello(text: Buffer): Hello | null {
  if (text.length > HELLO_LIMIT_BYTES) return null
  let value: unknown
  try {
    value = JSON.parse(text.toString('utf8'))
  } catch (error) {
    if (error instanceof SyntaxError) return null
    throw error
  }
  return hello.safeParse(value).data ?? null
}
