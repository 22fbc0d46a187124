import type { ServerResponse } from 'node:http'
import type { ErrorBody } from '@pyro/protocol'

/** The way back to one client, before it is known what the answer is. */
export interface Outlet {
  /** True once the head is sent: what follows can only be frames. */
  readonly begun: boolean
  readonly destroyed: boolean
  /** Fires when the client leaves before the answer is complete. */
  readonly gone: AbortSignal
  setHeader(name: string, value: string): void
  /** A complete answer with one JSON document. */
  document(status: number, text: string): void
  /** The complete answer to what was not begun. */
  refuse(status: number, error: ErrorBody): void
  /** The head of a stream. */
  begin(contentType: string): void
  /** A promise means: wait, the client is slower. */
  write(...pieces: readonly Uint8Array[]): Promise<void> | null
  end(): void
  destroy(): void
}

/** An answer as HTTP: any client can read it. */
export class HttpOutlet implements Outlet {
  readonly gone: AbortSignal
  readonly #response: ServerResponse

  constructor(response: ServerResponse) {
    this.#response = response
    this.gone = signalOfLeaving(response)
  }

  get begun(): boolean {
    return this.#response.headersSent
  }

  get destroyed(): boolean {
    return this.#response.destroyed
  }

  setHeader(name: string, value: string): void {
    this.#response.setHeader(name, value)
  }

  document(status: number, text: string): void {
    this.#response.writeHead(status, headOf(text))
    this.#response.end(text)
  }

  refuse(status: number, error: ErrorBody): void {
    this.document(status, JSON.stringify({ error }))
  }

  begin(contentType: string): void {
    this.#response.writeHead(200, { 'content-type': contentType })
  }

  /** Never corked: a corked message calls itself full by its own count, which the socket may not share, and then drains never. */
  write(...pieces: readonly Uint8Array[]): Promise<void> | null {
    let free = true
    for (const piece of pieces) free = this.#response.write(piece)
    return free ? null : drained(this.#response)
  }

  end(): void {
    this.#response.end()
  }

  destroy(): void {
    this.#response.destroy()
  }
}

export const headOf = (text: string) => ({
  'content-type': 'application/json',
  'content-length': Buffer.byteLength(text),
})

const signalOfLeaving = (response: ServerResponse): AbortSignal => {
  const gone = new AbortController()
  response.on('error', () => gone.abort())
  response.on('close', () => {
    if (!response.writableFinished) gone.abort(clientGone())
  })
  return gone.signal
}

export const clientGone = (): Error => new Error('the client is gone')

/** What is needed of a response and of a socket. */
interface Destination {
  readonly destroyed: boolean
  on(event: 'close' | 'drain', listener: () => void): this
  off(event: 'close' | 'drain', listener: () => void): this
}

export const drained = (destination: Destination): Promise<void> | null => {
  if (destination.destroyed) return null
  return new Promise((resolve) => {
    const settle = (): void => {
      destination.off('drain', settle).off('close', settle)
      resolve()
    }
    destination.on('drain', settle).on('close', settle)
  })
}
