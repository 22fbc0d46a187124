import { FRAME, PyroError, type Frame } from '@pyro/protocol'
import { commandEvent, commandExit } from '@pyro/protocol/guest'
import type { CommandExit, CommandOutput, OutputChunk } from './agent-client.ts'
import type { Call } from './call.ts'

/** Reads the frames of a command's output behind the first event. */
export class OutputReader implements CommandOutput {
  readonly cursor: number
  readonly exit: Promise<CommandExit>
  readonly #call: Call
  readonly #frames: AsyncIterator<Frame, void>
  readonly #exit = Promise.withResolvers<CommandExit>()
  #reading = false
  #detached = false

  constructor(call: Call, frames: AsyncIterator<Frame, void>, cursor: number) {
    this.#call = call
    this.#frames = frames
    this.cursor = cursor
    this.exit = this.#exit.promise
    // Readers that only want the output never look at it.
    this.exit.then(null, noOneWaits)
    // A stream closes when its last chunk was taken; whoever reads may have frames of it still to come.
    call.stream.once('close', () => {
      if (!this.#reading) this.#exit.reject(call.explain(null))
    })
  }

  /** Takes the answer to `start` or `attach` up to its first event. */
  static async open(call: Call): Promise<OutputReader> {
    await call.answered()
    const frames = call.frames()
    const first = await frames.next()
    if (first.done === true) throw call.session.fail(`the answer to ${call.path} is empty`)
    call.relax()
    if (first.value.type === FRAME.event) {
      const event = call.parseJson(first.value.payload, commandEvent)
      return new OutputReader(call, frames, event.type === 'attached' ? event.cursor : 0)
    }
    return new OutputReader(call, prepend(first.value, frames), 0)
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<OutputChunk, void, undefined> {
    let cursor = this.cursor
    this.#reading = true
    try {
      for (;;) {
        const { done, value: frame } = await this.#frames.next()
        if (done === true) throw this.#call.session.fail(`the answer to ${this.#call.path} has no result`)
        switch (frame.type) {
          case FRAME.stdout:
          case FRAME.stderr: {
            const { buffer, byteOffset, byteLength } = frame.payload
            if (byteLength === 0) continue
            cursor += byteLength
            const stream = frame.type === FRAME.stdout ? 'stdout' : 'stderr'
            yield { stream, data: Buffer.from(buffer, byteOffset, byteLength), cursor }
            continue
          }
          case FRAME.event:
            this.#call.parseJson(frame.payload, commandEvent)
            continue
          case FRAME.result:
            this.#exit.resolve(this.#call.parseJson(frame.payload, commandExit))
            this.#letEnd()
            return
          case FRAME.input:
          case FRAME.stdin:
          case FRAME.data:
          case FRAME.error:
          case FRAME.control:
          case FRAME.head:
            throw this.#call.unexpected(frame)
        }
      }
    } catch (error) {
      this.#exit.reject(error)
      if (!this.#detached) throw error
    } finally {
      this.detach()
    }
  }

  /** Nothing but the end of the stream may follow, and mostly has come already: to cancel it would cost both sides a message. */
  #letEnd(): void {
    this.#detached = true
    this.#call.touch()
    this.#frames.next().then(({ done }) => {
      if (done !== true) this.#call.end(null)
    }, noOneWaits)
  }

  detach(): void {
    if (this.#detached) return
    this.#detached = true
    this.#call.end(new PyroError('request.cancelled', `${this.#call.session.name}: reading was given up`))
  }
}

async function* prepend(first: Frame, rest: AsyncIterable<Frame>): AsyncGenerator<Frame, void, undefined> {
  yield first
  yield* rest
}

const noOneWaits = (): void => undefined
