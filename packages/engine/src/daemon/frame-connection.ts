import type { Socket } from 'node:net'
import {
  batchesOf,
  FRAME,
  FrameDecoder,
  FrameError,
  FRAME_HEADER_BYTES,
  REQUEST_ID_HEADER,
  type Frame,
} from '@pyro/protocol'
import { BareOutlet } from './bare-outlet.ts'
import { parseJson } from './input.ts'
import {
  DISCARD_BYTES,
  discardRest,
  endedBeforeInput,
  fieldsOf,
  invalidFrames,
  RequestBody,
  textOf,
  type OpenedRequest,
} from './request-body.ts'

/** Of a connection that nobody calls on; each costs a file descriptor. */
export const KEEP_ALIVE_MS = 60_000

/** The head of a call behind the first. */
export interface FrameHead {
  readonly operation: unknown
  readonly requestId: unknown
}

/** One call on a bare connection. */
export interface FrameCall {
  /** Null for the first, whose head was HTTP. */
  readonly head: FrameHead | null
  readonly outlet: BareOutlet
  open(limitBytes: number): Promise<OpenedRequest>
  /** The answer is complete. */
  close(): void
}

type Serve = (call: FrameCall) => Promise<void>

/** A call from its head to the end of its answer. */
interface UnderWay {
  readonly outlet: BareOutlet
  readonly body: RequestBody
  readonly input: PromiseWithResolvers<Frame>
  hasInput: boolean
}

/**
 * A connection that speaks frames (ADR 13): one call, or one after another where the client keeps it. Both ends stay open until the
 * answer is complete: a client that ends its own leaves.
 */
export class FrameConnection {
  readonly #socket: Socket
  readonly #serve: Serve
  #keeps: boolean
  /** Null between two calls. */
  #call: UnderWay | null = null
  /** Bytes that came since the last call and belong to none. */
  #dropped = 0
  #idle: NodeJS.Timeout | undefined

  constructor(socket: Socket, keeps: boolean, serve: Serve) {
    this.#socket = socket
    this.#keeps = keeps
    this.#serve = serve
    socket.on('error', () => this.#call?.outlet.closed())
    socket.on('close', () => {
      clearTimeout(this.#idle)
      this.#call?.outlet.closed()
    })
    socket.on('end', () => {
      if (!socket.writableEnded) socket.destroy()
    })
  }

  /** Serves calls until the connection ends. */
  async run(): Promise<void> {
    this.#begin(null)
    const decoder = new FrameDecoder()
    let failure: unknown = null
    try {
      for await (const batch of batchesOf(this.#socket)) {
        for (const chunk of batch) {
          for (const frame of decoder.push(chunk)) {
            const held = this.#accept(frame)
            if (held !== null) await held
          }
        }
      }
      if (!decoder.atBoundary) failure = new FrameError('the request ended in the middle of a frame')
    } catch (error) {
      failure = error
    }
    this.#keeps = false
    if (this.#call === null) this.#socket.destroy()
    else {
      this.#call.input.reject(failure === null ? endedBeforeInput() : invalidFrames(failure))
      this.#call.body.end(failure)
    }
  }

  /** The call under way, if there is one, is the last. */
  leave(): void {
    if (this.#call === null) this.#hangUp()
    else this.#keeps = false
  }

  destroy(): void {
    this.#socket.destroy()
  }

  /** A client that is slow gets the end of its last answer first. */
  #hangUp(): void {
    this.#keeps = false
    if (this.#socket.writableLength > 0) this.#end()
    else this.#socket.destroy()
  }

  /** What was written goes out, and what still comes is dropped, within bounds. */
  #end(): void {
    this.#keeps = false
    this.#socket.end()
    discardRest(this.#socket)
  }

  #begin(head: FrameHead | null): void {
    clearTimeout(this.#idle)
    const outlet = new BareOutlet(this.#socket, { http: head === null, keeps: this.#keeps })
    const call: UnderWay = { outlet, body: new RequestBody(), input: Promise.withResolvers(), hasInput: false }
    // Whoever refuses the call by its head never asks.
    call.input.promise.catch(() => undefined)
    this.#call = call
    void this.#serve({
      head,
      outlet,
      open: async (limitBytes) => ({ fields: fieldsOf(await call.input.promise, limitBytes), body: call.body }),
      close: () => this.#close(call),
    })
  }

  #accept(frame: Frame): Promise<void> | null {
    const call = this.#call
    if (call === null) {
      this.#next(frame)
      return null
    }
    if (call.hasInput) return call.body.accept(frame)
    call.hasInput = true
    call.input.resolve(frame)
    return null
  }

  #next(frame: Frame): void {
    if (frame.type === FRAME.head && this.#keeps) {
      this.#dropped = 0
      const { operation, [REQUEST_ID_HEADER]: requestId } = parseJson(textOf(frame))
      this.#begin({ operation, requestId })
      return
    }
    this.#dropped += FRAME_HEADER_BYTES + frame.payload.byteLength
    if (this.#dropped > DISCARD_BYTES) this.#socket.destroy()
  }

  #close({ outlet, body }: UnderWay): void {
    this.#call = null
    body.abandon()
    if (this.#keeps && outlet.keeps) {
      this.#idle = setTimeout(() => this.#hangUp(), KEEP_ALIVE_MS).unref()
      return
    }
    this.#end()
  }
}
