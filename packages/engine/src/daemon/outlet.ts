import { STATUS_CODES, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { UPGRADE_PROTOCOL } from '@pyro/protocol'

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

/**
 * An answer on the bare connection, behind `101 Switching Protocols`: with much output a client spends half of its time on what HTTP
 * puts around each piece (ADR 13).
 */
export class BareOutlet implements Outlet {
  readonly gone: AbortSignal
  readonly #socket: Socket
  readonly #headers: [name: string, value: string][] = []
  begun = false

  constructor(socket: Socket) {
    this.#socket = socket
    this.gone = signalOfLeaving(socket)
    // Both ends stay open until the answer is complete: a client that ends its own leaves.
    socket.on('end', () => {
      if (!socket.writableEnded) socket.destroy()
    })
  }

  get destroyed(): boolean {
    return this.#socket.destroyed
  }

  setHeader(name: string, value: string): void {
    this.#headers.push([name, value])
  }

  document(status: number, text: string): void {
    this.#head(status, { ...headOf(text), connection: 'close' })
    this.#socket.end(text)
  }

  begin(contentType: string): void {
    this.#head(101, { 'content-type': contentType, connection: 'upgrade', upgrade: UPGRADE_PROTOCOL })
  }

  write(...pieces: readonly Uint8Array[]): Promise<void> | null {
    this.#join()
    let free = true
    for (const piece of pieces) free = this.#socket.write(piece)
    return free ? null : drained(this.#socket)
  }

  end(): void {
    this.#socket.end()
  }

  /** What was written before goes out first. */
  destroy(): void {
    this.#socket.uncork()
    this.#socket.destroy()
  }

  /** What is written before this process waits again goes out together: its client wakes once. */
  #join(): void {
    if (this.#socket.writableCorked > 0) return
    this.#socket.cork()
    process.nextTick(() => this.#socket.uncork())
  }

  #head(status: number, headers: Readonly<Record<string, string | number>>): void {
    this.begun = true
    this.#join()
    const lines = [...this.#headers, ...Object.entries(headers)].map(([name, value]) => `${name}: ${value}\r\n`)
    this.#socket.write(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${lines.join('')}\r\n`)
  }
}

const headOf = (text: string) => ({ 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) })

/** What is needed of a response and of a socket. */
interface Destination {
  readonly destroyed: boolean
  readonly writableFinished: boolean
  on(event: 'error' | 'close' | 'drain', listener: () => void): this
  off(event: 'close' | 'drain', listener: () => void): this
}

const signalOfLeaving = (destination: Destination): AbortSignal => {
  const gone = new AbortController()
  destination.on('error', () => gone.abort())
  destination.on('close', () => {
    if (!destination.writableFinished) gone.abort(new Error('the client is gone'))
  })
  return gone.signal
}

const drained = (destination: Destination): Promise<void> | null => {
  if (destination.destroyed) return null
  return new Promise((resolve) => {
    const settle = (): void => {
      destination.off('drain', settle).off('close', settle)
      resolve()
    }
    destination.on('drain', settle).on('close', settle)
  })
}
