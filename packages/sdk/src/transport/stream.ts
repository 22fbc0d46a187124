import { FRAME, isPyroError, PyroError, STARTED_HEADER, type Frame } from '@pyro/protocol/client'
import { SWITCHING_PROTOCOLS, type Answer, type Conversation } from './conversation.ts'
import { EngineGone } from './engine-gone.ts'
import { errorOf, resultOf, type RequestHead, type Wire } from './exchange.ts'
import { FrameSender, type Upload } from './upload.ts'

/** What a caller does with the frames of a stream; a promise that is returned holds the stream back. */
export interface Sink {
  readonly event?: ((event: unknown) => void | Promise<void>) | undefined
  readonly stdout?: ((bytes: Uint8Array) => void | Promise<void>) | undefined
  readonly stderr?: ((bytes: Uint8Array) => void | Promise<void>) | undefined
  readonly data?: ((bytes: Uint8Array) => void | Promise<void>) | undefined
  /** Nothing follows: the engine has given its result, or its error. */
  readonly end?: (() => void | Promise<void>) | undefined
}

export interface StreamAttempt {
  readonly head: RequestHead
  readonly sink: Sink
  readonly upload?: Upload | undefined
  /** Called once the request is open; the sender carries control frames until the answer is complete. */
  readonly opened?: ((sender: FrameSender) => void) | undefined
  /** Ends the connection at once. */
  readonly signal?: AbortSignal | undefined
}

/** One attempt at a streaming call: resolves with the result, rejects with a PyroError or, when the engine died, EngineGone. */
export const attemptStream = async (wire: Wire, attempt: StreamAttempt): Promise<unknown> => {
  const { conversation, input } = wire.converse(attempt.head, { fresh: attempt.upload !== undefined })
  const { socket } = conversation
  const destroy = (): void => void socket.destroy()
  attempt.signal?.addEventListener('abort', destroy, { once: true })
  const sender = new FrameSender(socket)
  const upload: { state: 'under way' | 'sent' | Error } = { state: 'under way' }
  void send(attempt, input, sender).then(
    () => (upload.state = 'sent'),
    (error: unknown) => {
      // The engine takes an upload that breaks off for a failed one and changes nothing.
      upload.state = error instanceof Error ? error : new Error('the upload failed', { cause: error })
      socket.destroy()
    },
  )
  let outcome: Outcome
  try {
    outcome = await read(wire, conversation, attempt.sink)
  } catch (error) {
    socket.destroy()
    throw upload.state instanceof Error ? upload.state : error
  } finally {
    sender.stop()
    attempt.signal?.removeEventListener('abort', destroy)
  }
  if (upload.state === 'sent') wire.keep(conversation)
  else socket.destroy()
  await attempt.sink.end?.()
  if (outcome.error !== null) throw outcome.error
  return outcome.result
}

interface Outcome {
  readonly result: unknown
  /** The engine's typed error: an answer like any other to the connection. */
  readonly error: PyroError | null
}

const send = async (attempt: StreamAttempt, input: RequestHead['input'], sender: FrameSender): Promise<void> => {
  sender.json(FRAME.input, input)
  attempt.opened?.(sender)
  if (attempt.upload !== undefined) await sender.upload(attempt.upload)
}

const read = async (wire: Wire, conversation: Conversation, sink: Sink): Promise<Outcome> => {
  const answer = await conversation.answer()
  wire.noteStarted(answer.headers.get(STARTED_HEADER))
  return answer.framed ? readFrames(wire, conversation, sink) : readDocument(conversation, answer)
}

const readFrames = async (wire: Wire, conversation: Conversation, sink: Sink): Promise<Outcome> => {
  let outcome: Outcome | null = null
  for (let chunks = await conversation.next(); chunks !== null; chunks = await conversation.next()) {
    for (const chunk of chunks) {
      for (const frame of conversation.frames(chunk)) {
        if (outcome !== null) throw misplaced(frame)
        outcome = outcomeOf(frame)
        if (outcome !== null) continue
        const waiting = deliver(frame, sink, wire)
        if (waiting !== undefined) await waiting
      }
    }
    if (outcome !== null) return outcome
  }
  throw new EngineGone('the stream of the engine ended without a result')
}

/** Null for a frame behind which others come. */
const outcomeOf = (frame: Frame): Outcome | null => {
  if (frame.type === FRAME.result) return { result: parse(frame), error: null }
  if (frame.type === FRAME.error) return { result: null, error: errorOf({ error: parse(frame) }, SWITCHING_PROTOCOLS) }
  return null
}

const readDocument = async (conversation: Conversation, answer: Answer): Promise<Outcome> => {
  try {
    return { result: resultOf(answer.status, await conversation.document(answer)), error: null }
  } catch (error) {
    if (!isPyroError(error)) throw error
    return { result: null, error }
  }
}

const deliver = (frame: Frame, sink: Sink, wire: Wire): void | Promise<void> => {
  switch (frame.type) {
    case FRAME.stdout:
      return sink.stdout?.(frame.payload)
    case FRAME.stderr:
      return sink.stderr?.(frame.payload)
    case FRAME.data:
      return sink.data?.(frame.payload)
    case FRAME.event:
      return sink.event?.(parse(frame))
    case FRAME.head:
      return wire.noteStarted((parse(frame) as Record<string, string | undefined>)[STARTED_HEADER])
    case FRAME.input:
    case FRAME.stdin:
    case FRAME.control:
    case FRAME.result:
    case FRAME.error:
      throw misplaced(frame)
  }
}

const misplaced = ({ type }: Frame): PyroError =>
  new PyroError('internal', `the engine sent a frame of type ${type} where none belongs`)

const parse = (frame: Frame): unknown => {
  try {
    return JSON.parse(Buffer.from(frame.payload.buffer, frame.payload.byteOffset, frame.payload.byteLength).toString())
  } catch (error) {
    throw new PyroError('internal', 'the engine sent a frame that is not JSON', { cause: error })
  }
}
