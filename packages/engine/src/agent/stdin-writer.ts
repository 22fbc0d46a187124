import { Writable } from 'node:stream'
import { z } from 'zod'
import type { Call } from './call.ts'

const ANSWER_BYTES = 4096
/** Not yet taken by the link; then the writer waits. */
const BUFFER_BYTES = 256 * 1024

/** Feeds a command's stdin. Ending it closes the stdin; destroying it gives the upload up. */
export class StdinWriter extends Writable {
  readonly #open: () => Promise<Call>
  #call: Call | null = null

  constructor(open: () => Promise<Call>) {
    super({ highWaterMark: BUFFER_BYTES, decodeStrings: true })
    this.#open = open
  }

  override _construct(done: (error?: Error | null) => void): void {
    this.#open().then(
      (call) => {
        this.#call = call
        // An answer before the end means that nobody reads any more.
        call.answered().then(null, (error: unknown) => this.destroy(asError(error)))
        done()
      },
      (error: unknown) => done(asError(error)),
    )
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    const call = this.#call
    if (call === null || call.stream.destroyed) return done(asError(call?.explain(null)))
    call.stream.write(chunk, (error) =>
      done(error === null || error === undefined ? null : asError(call.explain(error))),
    )
  }

  override _final(done: (error?: Error | null) => void): void {
    const call = this.#call
    if (call === null) return done()
    call.stream.end()
    call
      .answered()
      .then(() => call.readJson(z.strictObject({}), ANSWER_BYTES))
      .then(
        () => done(),
        (error: unknown) => done(asError(error)),
      )
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    if (this.#call !== null && !this.#call.stream.destroyed) this.#call.end(error)
    done(error)
  }
}

const asError = (error: unknown): Error =>
  error instanceof Error ? error : new Error('the upload ended', { cause: error })
