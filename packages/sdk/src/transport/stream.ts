import {
  ANSWER_LIMIT_BYTES,
  FRAME,
  FrameDecoder,
  isPyroError,
  PyroError,
  STARTED_HEADER,
  type Frame,
} from '@pyro/protocol/client'
import { answerOn, documentOf, type Answer } from './conversation.ts'
import { EngineGone, errorOf, resultOf, type RequestHead, type Wire } from './exchange.ts'
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
  const { socket, rest } = wire.converse(attempt.head)
  const destroy = (): void => void socket.destroy()
  attempt.signal?.addEventListener('abort', destroy, { once: true })
  const sender = new FrameSender(socket)
  const failed: { upload: Error | null } = { upload: null }
  const uploading = send(attempt, rest, sender).catch((error: unknown) => {
    // The engine takes an upload that breaks off for a failed one and changes nothing.
    failed.upload = error instanceof Error ? error : new Error('the upload failed', { cause: error })
    socket.destroy()
  })
  try {
    const answer = await answerOn(socket)
    wire.noteStarted(answer.headers.get(STARTED_HEADER))
    const outcome = answer.framed ? await readFrames(answer, attempt.sink) : await readDocument(answer)
    sender.stop()
    socket.destroy()
    await attempt.sink.end?.()
    if (outcome.error !== null) throw outcome.error
    return outcome.result
  } catch (error) {
    sender.stop()
    if (failed.upload !== null) throw failed.upload
    throw error
  } finally {
    socket.destroy()
    attempt.signal?.removeEventListener('abort', destroy)
    void uploading
  }
}

interface Outcome {
  readonly result: unknown
  /** The engine's typed error: an answer like any other to the connection. */
  readonly error: PyroError | null
}

const send = async (attempt: StreamAttempt, rest: Record<string, unknown>, sender: FrameSender): Promise<void> => {
  sender.json(FRAME.input, rest)
  attempt.opened?.(sender)
  if (attempt.upload !== undefined) await sender.upload(attempt.upload)
}

const readFrames = async ({ batches, status }: Answer, sink: Sink): Promise<Outcome> => {
  const decoder = new FrameDecoder({ jsonLimitBytes: ANSWER_LIMIT_BYTES })
  for await (const batch of batches) {
    for (const chunk of batch) {
      for (const frame of decoder.push(chunk)) {
        if (frame.type === FRAME.result) return { result: parse(frame), error: null }
        if (frame.type === FRAME.error) return { result: null, error: errorOf({ error: parse(frame) }, status) }
        const waiting = deliver(frame, sink)
        if (waiting !== undefined) await waiting
      }
    }
  }
  throw new EngineGone('the stream of the engine ended without a result')
}

const readDocument = async (answer: Answer): Promise<Outcome> => {
  try {
    return { result: resultOf(answer.status, await documentOf(answer)), error: null }
  } catch (error) {
    if (!isPyroError(error)) throw error
    return { result: null, error }
  }
}

const deliver = (frame: Frame, sink: Sink): void | Promise<void> => {
  switch (frame.type) {
    case FRAME.stdout:
      return sink.stdout?.(frame.payload)
    case FRAME.stderr:
      return sink.stderr?.(frame.payload)
    case FRAME.data:
      return sink.data?.(frame.payload)
    case FRAME.event:
      return sink.event?.(parse(frame))
    case FRAME.input:
    case FRAME.stdin:
    case FRAME.control:
    case FRAME.result:
    case FRAME.error:
      throw new PyroError('internal', `the engine sent a frame of type ${frame.type} where none belongs`)
  }
}

const parse = (frame: Frame): unknown => {
  try {
    return JSON.parse(Buffer.from(frame.payload.buffer, frame.payload.byteOffset, frame.payload.byteLength).toString())
  } catch (error) {
    throw new PyroError('internal', 'the engine sent a frame that is not JSON', { cause: error })
  }
}
