import type { Socket } from 'node:net'
import { ANSWER_LIMIT_BYTES, batchesOf, PyroError } from '@pyro/protocol/client'
import { connectionError, EngineGone } from './exchange.ts'

/** The head of an answer is far smaller. */
const HEAD_BYTES = 16 * 1024
const HEAD_END = '\r\n\r\n'
const SWITCHING_PROTOCOLS = 101

type Batches = AsyncGenerator<readonly Uint8Array[], void, undefined>

/** The head of the answer on a connection that asked for an upgrade, and what follows it: frames, or one JSON document. */
export interface Answer {
  readonly status: number
  readonly headers: ReadonlyMap<string, string>
  readonly framed: boolean
  readonly batches: Batches
}

/**
 * Waits for the head of the answer.
 *
 * @throws EngineGone when the connection ends before it
 */
export const answerOn = async (socket: Socket): Promise<Answer> => {
  const batches = batchesOn(socket)
  let head = Buffer.alloc(0)
  for (;;) {
    const { value, done } = await batches.next()
    if (done === true) throw new EngineGone('the engine ended before it had answered')
    head = Buffer.concat([head, ...value])
    const end = head.indexOf(HEAD_END)
    if (end < 0 && head.length > HEAD_BYTES) throw notHttp()
    if (end < 0) continue
    const rest = head.subarray(end + HEAD_END.length)
    return { ...headOf(head.toString('latin1', 0, end)), batches: behind(rest, batches) }
  }
}

/** The document of an answer that is not frames. */
export const documentOf = async ({ headers, batches }: Answer): Promise<Buffer> => {
  const length = Number(headers.get('content-length'))
  if (!headers.has('content-length') || Number.isNaN(length)) throw notHttp()
  if (length > ANSWER_LIMIT_BYTES) {
    throw new PyroError('limit.exceeded', `the answer of the engine is larger than ${ANSWER_LIMIT_BYTES} bytes`)
  }
  const parts: Uint8Array[] = []
  let missing = length
  for await (const batch of batches) {
    parts.push(...batch)
    for (const { byteLength } of batch) missing -= byteLength
    if (missing <= 0) return Buffer.concat(parts, length)
  }
  throw new EngineGone('the engine ended in the middle of an answer')
}

const headOf = (text: string): Omit<Answer, 'batches'> => {
  const [start = '', ...lines] = text.split('\r\n')
  const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(start)?.[1])
  if (Number.isNaN(status)) throw notHttp()
  const headers = new Map<string, string>()
  for (const line of lines) {
    const at = line.indexOf(':')
    headers.set(line.slice(0, at).toLowerCase(), line.slice(at + 1).trim())
  }
  return { status, headers, framed: status === SWITCHING_PROTOCOLS }
}

const notHttp = (): PyroError => new PyroError('internal', 'the engine answered something that is not HTTP')

async function* behind(first: Uint8Array, rest: Batches): Batches {
  if (first.byteLength > 0) yield [first]
  yield* rest
}

async function* batchesOn(socket: Socket): Batches {
  try {
    yield* batchesOf(socket)
  } catch (error) {
    throw connectionError(error)
  }
}
