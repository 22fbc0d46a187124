import type { Socket } from 'node:net'
import { FRAME, frameHeader, type FrameType } from '@pyro/protocol/client'

/** Payload of one frame of an upload; larger chunks are split. */
const UPLOAD_FRAME_BYTES = 1024 * 1024

/** Bytes on their way to the engine. A call that is repeated opens the source again. */
export type ByteSource = AsyncIterable<Uint8Array> | Iterable<Uint8Array>

export interface Upload {
  /** The archive; opened anew for each attempt. */
  readonly data?: (() => ByteSource) | undefined
  /** Standard input. */
  readonly stdin?: (() => ByteSource) | undefined
}

/** Writes the frames of one request. Frames of different senders (stdin, control) never interleave. */
export class FrameSender {
  readonly #socket: Socket
  #stopped = false

  constructor(socket: Socket) {
    this.#socket = socket
  }

  json(type: FrameType, value: unknown): void {
    this.#write(type, Buffer.from(JSON.stringify(value)))
  }

  /** Begins when somebody is at the other end: what can be read only once is not read for nobody. */
  async upload(upload: Upload): Promise<void> {
    if (!(await this.#connected())) return
    if (upload.data !== undefined) await this.#stream(FRAME.data, upload.data())
    if (upload.stdin !== undefined) await this.#stream(FRAME.stdin, upload.stdin())
  }

  /** Nothing is written any more: the engine has answered, or is gone. */
  stop(): void {
    this.#stopped = true
  }

  async #stream(type: FrameType, source: ByteSource): Promise<void> {
    for await (const chunk of source) {
      for (let at = 0; at < chunk.byteLength; at += UPLOAD_FRAME_BYTES) {
        if (this.#stopped) return
        if (!this.#write(type, chunk.subarray(at, at + UPLOAD_FRAME_BYTES))) await this.#drain()
      }
      if (this.#stopped) return
    }
    this.#write(type, new Uint8Array(0))
  }

  #write(type: FrameType, payload: Uint8Array): boolean {
    if (this.#stopped || this.#socket.destroyed) return true
    this.#socket.cork()
    this.#socket.write(frameHeader(type, payload.byteLength))
    const free = this.#socket.write(payload)
    this.#socket.uncork()
    return free
  }

  /** False when nobody takes the connection. */
  #connected(): Promise<boolean> {
    if (!this.#socket.connecting) return Promise.resolve(!this.#socket.destroyed)
    return new Promise((resolve) => {
      this.#socket.once('connect', () => resolve(true)).once('close', () => resolve(false))
    })
  }

  /** Settles when there is room again, or when the attempt is over: its reader reports why. */
  #drain(): Promise<void> {
    return new Promise((resolve) => {
      const settle = (): void => {
        this.#socket.off('drain', settle).off('close', settle)
        resolve()
      }
      this.#socket.on('drain', settle).on('close', settle)
    })
  }
}
