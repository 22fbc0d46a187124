import { STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import {
  CONNECTION_HEADER,
  encodeJsonFrame,
  FRAME,
  KEEP_CONNECTION,
  UPGRADE_PROTOCOL,
  type ErrorBody,
} from '@pyro/protocol'
import { clientGone, drained, headOf, type Outlet } from './outlet.ts'

/** How an answer on a bare connection begins and what follows it. */
export interface BareAnswer {
  /** The request came as HTTP, and so does the head of the answer. */
  readonly http: boolean
  /** The connection takes another call afterwards. */
  readonly keeps: boolean
}

/**
 * An answer on the bare connection, behind `101 Switching Protocols`: with much output a client spends half of its time on what HTTP
 * puts around each piece (ADR 13). Whose connection it is ends it.
 */
export class BareOutlet implements Outlet {
  readonly #socket: Socket
  readonly #http: boolean
  #keeps: boolean
  readonly #gone = new AbortController()
  readonly #headers: Record<string, string> = {}
  #complete = false
  begun = false

  constructor(socket: Socket, answer: BareAnswer) {
    this.#socket = socket
    this.#http = answer.http
    this.#keeps = answer.keeps
  }

  get destroyed(): boolean {
    return this.#socket.destroyed
  }

  get gone(): AbortSignal {
    return this.#gone.signal
  }

  /** True once the answer is complete and another may follow it. */
  get keeps(): boolean {
    return this.#complete && this.#keeps
  }

  setHeader(name: string, value: string): void {
    this.#headers[name] = value
  }

  document(status: number, text: string): void {
    this.#keeps = false
    this.#head(status, { ...headOf(text), connection: 'close' })
    this.#socket.write(text)
    this.end()
  }

  refuse(status: number, error: ErrorBody): void {
    if (this.#http) return this.document(status, JSON.stringify({ error }))
    this.#beginFrames()
    void this.write(encodeJsonFrame(FRAME.error, error))
    this.end()
  }

  begin(contentType: string): void {
    const switching = { 'content-type': contentType, connection: 'upgrade', upgrade: UPGRADE_PROTOCOL }
    const kept = this.#keeps ? { [CONNECTION_HEADER]: KEEP_CONNECTION } : {}
    if (this.#http) this.#head(101, { ...switching, ...kept })
    else this.#beginFrames()
  }

  /** What comes behind the end would be part of the next answer. */
  write(...pieces: readonly Uint8Array[]): Promise<void> | null {
    if (this.#complete) return null
    this.#join()
    let free = true
    for (const piece of pieces) free = this.#socket.write(piece)
    return free ? null : drained(this.#socket)
  }

  end(): void {
    this.#complete = true
  }

  /** What was written before goes out first. */
  destroy(): void {
    this.#socket.uncork()
    this.#socket.destroy()
  }

  /** The connection is closed. */
  closed(): void {
    if (!this.#complete) this.#gone.abort(clientGone())
  }

  #beginFrames(): void {
    this.begun = true
    if (Object.keys(this.#headers).length > 0) void this.write(encodeJsonFrame(FRAME.head, this.#headers))
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
    const lines = Object.entries({ ...this.#headers, ...headers }).map(([name, value]) => `${name}: ${value}\r\n`)
    this.#socket.write(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${lines.join('')}\r\n`)
  }
}
