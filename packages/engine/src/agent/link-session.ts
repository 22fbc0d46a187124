import { connect, type ClientHttp2Session, type ClientHttp2Stream } from 'node:http2'
import type { Socket } from 'node:net'
import { PyroError } from '@pyro/protocol'

/** Each time the agent has used it up it sleeps until it is granted more, which costs gVisor most. Well below what the agent keeps of output that was sent (4 MiB). */
const STREAM_WINDOW_BYTES = 2 * 1024 * 1024
const SESSION_WINDOW_BYTES = 64 * 1024 * 1024
/** Larger frames make fewer wake-ups; one frame still fits a quarter of a stream's window. */
const FRAME_BYTES = 512 * 1024
const HEADER_LIST_BYTES = 8 * 1024
const HEADER_PAIRS = 32
/** Memory nghttp2 may hold for the whole session, in MB. */
const SESSION_MEMORY_MB = 96
const PENDING_ACKS = 16
const SETTINGS_ENTRIES = 16
const PING_INTERVAL_MS = 5_000
const PING_DEADLINE_MS = 10_000
/** After a stall of this process, answers that already wait in the socket get this long to be read. */
const PING_GRACE_MS = 250
/** Requests under way on one link; the protocol allows 4096. */
const MAX_REQUESTS = 2048
/** Bytes between two pings that were neither payload nor its framing: a peer that only keeps us busy. */
const OVERHEAD_LIMIT_BYTES = 8 * 1024 * 1024
/** Framing around payload: 9 bytes a DATA frame, however small, is allowed up to this many per payload byte. */
const OVERHEAD_PER_PAYLOAD_BYTE = 16

/** One HTTP/2 session on one accepted socket. It ends once, with one reason. */
export class LinkSession {
  /** Settles with the reason when the session is over; never rejects. */
  readonly ended: Promise<PyroError>
  /** For messages: which sandbox. */
  readonly name: string
  /** True when it ended because the peer broke the protocol. */
  hostile = false
  readonly #socket: Socket
  readonly #http: ClientHttp2Session
  readonly #end: (reason: PyroError) => void
  #reason: PyroError | null = null
  #heardAt = Date.now()
  #pinger: NodeJS.Timeout
  #requests = 0
  #payloadBytes = 0
  #bytesAtTick = 0
  #payloadAtTick = 0

  constructor(socket: Socket, sandboxId: string) {
    this.name = `sandbox ${sandboxId}`
    this.#socket = socket
    const { promise, resolve } = Promise.withResolvers<PyroError>()
    this.ended = promise
    this.#end = resolve
    this.#http = connect('http://sandbox', {
      createConnection: () => socket,
      settings: {
        enablePush: false,
        initialWindowSize: STREAM_WINDOW_BYTES,
        maxFrameSize: FRAME_BYTES,
        maxHeaderListSize: HEADER_LIST_BYTES,
      },
      maxHeaderListPairs: HEADER_PAIRS,
      maxSessionMemory: SESSION_MEMORY_MB,
      maxOutstandingPings: PENDING_ACKS,
      maxSettings: SETTINGS_ENTRIES,
    })
    this.#http.setLocalWindowSize(SESSION_WINDOW_BYTES)
    this.#http.on('error', (error) => this.#over(`the link broke: ${error.message}`, error))
    this.#http.on('goaway', (code) => this.#over(`the agent ended the link (code ${code})`))
    this.#http.on('close', () => this.#over('the link was closed'))
    this.#http.on('stream', () => this.fail('it opened a stream of its own'))
    this.#pinger = setInterval(() => this.#tick(), PING_INTERVAL_MS)
    this.#pinger.unref()
  }

  get open(): boolean {
    return this.#reason === null && !this.#http.closed && !this.#http.destroyed
  }

  /** Why the session ended; null while it is open. */
  get reason(): PyroError | null {
    return this.#reason
  }

  /** Milliseconds since 1970 of the last answer to a ping, or of the session's begin. */
  get heardAt(): number {
    return this.#heardAt
  }

  /** Opens a request. Errors of the stream are those of the session. */
  request(path: string): ClientHttp2Stream {
    if (this.#reason !== null) throw this.#reason
    if (this.#requests >= MAX_REQUESTS)
      throw new PyroError('limit.exceeded', `${this.name}: ${MAX_REQUESTS} requests are under way already`)
    const stream = this.#http.request({ ':method': 'POST', ':path': path }, { endStream: false })
    this.#requests += 1
    stream.once('close', () => {
      this.#requests -= 1
    })
    stream.on('headers', () => this.fail('it sent informational headers'))
    return stream
  }

  /** Tells the overhead check that this much of what arrived was wanted. */
  account(bytes: number): void {
    this.#payloadBytes += bytes
  }

  /** The peer broke the protocol: this link is over, and every call on it fails with this reason. */
  fail(why: string, cause?: unknown): PyroError {
    if (this.#reason === null) this.hostile = true
    return this.#over(`the agent broke the protocol: ${why}`, cause)
  }

  /** Ends the session at once. */
  destroy(why: string): void {
    this.#over(why)
  }

  #over(why: string, cause?: unknown): PyroError {
    if (this.#reason !== null) return this.#reason
    const reason = new PyroError('sandbox.unreachable', `${this.name}: ${why}`, { cause })
    this.#reason = reason
    clearInterval(this.#pinger)
    this.#http.destroy()
    this.#socket.destroy()
    this.#end(reason)
    return reason
  }

  #tick(): void {
    const overhead = this.#socket.bytesRead - this.#bytesAtTick - this.#payloadBytes + this.#payloadAtTick
    const allowed = OVERHEAD_LIMIT_BYTES + OVERHEAD_PER_PAYLOAD_BYTE * (this.#payloadBytes - this.#payloadAtTick)
    this.#bytesAtTick = this.#socket.bytesRead
    this.#payloadAtTick = this.#payloadBytes
    if (overhead > allowed) {
      this.fail(`${overhead} bytes in ${PING_INTERVAL_MS} ms carried nothing`)
      return
    }
    this.#ping()
  }

  #ping(): void {
    let answered = false
    const late = (): void => {
      if (!answered) this.#over(`the agent did not answer a ping within ${PING_DEADLINE_MS} ms`)
    }
    const deadline = setTimeout(() => setTimeout(late, PING_GRACE_MS).unref(), PING_DEADLINE_MS)
    deadline.unref()
    const sent = this.#http.ping((error) => {
      answered = error === null
      if (answered) this.#heardAt = Date.now()
      clearTimeout(deadline)
    })
    if (!sent) this.#over('too many pings are unanswered')
  }
}
