import { chmod, chown, rename, rm } from 'node:fs/promises'
import { createServer, type Server, type Socket } from 'node:net'
import { isPyroError, PyroError } from '@pyro/protocol'
import type { AgentClient } from './agent-client.ts'
import { AgentCalls, type Sessions } from './agent-calls.ts'
import { GuestClock } from './guest-clock.ts'
import { LinkSession } from './link-session.ts'
import { OtherProtocol, resync } from './resync.ts'

/** Dial-ins that have not proved themselves yet; more are turned away. */
const UNPROVEN_LIMIT = 4
/** After a dial-in that broke the protocol the next one waits, longer each time. */
const PENALTY_MS = { first: 50, most: 2_000 } as const

export interface AgentLinkOptions {
  /** Where the sandbox finds the socket. */
  readonly socketPath: string
  /** Same filesystem, out of the sandbox's reach: the socket appears at its place ready made. */
  readonly stagingPath: string
  /** Owner of the socket: root inside the sandbox. */
  readonly owner: number
  readonly sandboxId: string
  readonly token: string
  /** Of an adopted sandbox; another one is refused. */
  readonly bootId: string | null
  /** The guest's clock is not the host's. */
  readonly ownClock: boolean
}

/** The engine's end of one sandbox's link, over all its redials. */
export class AgentLink implements Sessions, AsyncDisposable {
  readonly agent: AgentClient
  /** Null where it is the host's. */
  readonly clock: GuestClock | null
  readonly #options: AgentLinkOptions
  readonly #server: Server
  readonly #unproven = new Set<Socket>()
  #bootId: string | null
  #session: LinkSession | null = null
  #downSince: number | null = Date.now()
  #next = Promise.withResolvers<LinkSession>()
  #lastFault: PyroError | null = null
  #faults = 0
  #closed = false
  #ended: PyroError | null = null
  #other: OtherProtocol | null = null
  #sessionEnded: (() => void) | null = null

  private constructor(options: AgentLinkOptions) {
    this.#options = options
    this.#bootId = options.bootId
    const agent = new AgentCalls(this)
    this.agent = agent
    this.clock = options.ownClock ? new GuestClock(agent) : null
    this.#next.promise.then(null, noOneWaits)
    this.#server = createServer({ pauseOnConnect: false }, (socket) => this.#accept(socket))
  }

  static async listen(options: AgentLinkOptions): Promise<AgentLink> {
    const link = new AgentLink(options)
    try {
      await rm(options.stagingPath, { force: true })
      await listening(link.#server, options.stagingPath)
      await chown(options.stagingPath, options.owner, options.owner)
      await chmod(options.stagingPath, 0o600)
      await rename(options.stagingPath, options.socketPath)
    } catch (error) {
      await link.close()
      throw error
    }
    return link
  }

  get bootId(): string {
    return this.#bootId ?? ''
  }

  get connected(): boolean {
    return this.#session?.open === true
  }

  get downSince(): number | null {
    return this.#downSince
  }

  /** Set while the agent is one that no call can reach. */
  get other(): PyroError | null {
    return this.#other
  }

  /** Why the last dial-in or session ended badly; null when none did. */
  get lastFault(): PyroError | null {
    return this.#lastFault
  }

  /** The session that is up, or the next one. Rejects with `sandbox.unreachable` after the time, with the abort reason before. */
  async session(options: {
    readonly signal?: AbortSignal | undefined
    readonly timeoutMs: number
  }): Promise<LinkSession> {
    options.signal?.throwIfAborted()
    if (this.#session?.open === true) return this.#session
    const hopeless = this.#ended ?? this.#other
    if (hopeless !== null) throw hopeless
    const { promise, reject } = Promise.withResolvers<never>()
    const deadline = setTimeout(() => {
      const why = this.#lastFault === null ? '' : `; last: ${this.#lastFault.message}`
      reject(
        new PyroError(
          'sandbox.unreachable',
          `sandbox ${this.#options.sandboxId}: no link to its agent within ${options.timeoutMs} ms${why}`,
        ),
      )
    }, options.timeoutMs)
    const abort = (): void => reject(options.signal?.reason)
    options.signal?.addEventListener('abort', abort)
    return Promise.race([this.#next.promise, promise]).finally(() => {
      clearTimeout(deadline)
      options.signal?.removeEventListener('abort', abort)
    })
  }

  /** The agent may be gone for good, or dial again. */
  onSessionEnd(listener: () => void): void {
    this.#sessionEnded = listener
  }

  /** Nobody will dial any more: who waits for a session is told at once. What the present one still holds can be read. */
  expectNoMore(why: string): void {
    this.#ended ??= new PyroError('sandbox.unreachable', `sandbox ${this.#options.sandboxId}: ${why}`)
    this.#next.reject(this.#ended)
  }

  /** Calls under way and to come fail; the socket goes. The sandbox is not told. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.expectNoMore('the engine let go of it')
    this.#session?.destroy('the engine let go of it')
    for (const socket of this.#unproven) socket.destroy()
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve())
    })
    await rm(this.#options.socketPath, { force: true })
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #accept(socket: Socket): void {
    // Whatever breaks on the socket is followed by its close, which the reader of the moment sees.
    socket.on('error', noOneWaits)
    if (this.#ended !== null || this.#unproven.size >= UNPROVEN_LIMIT) {
      socket.destroy()
      return
    }
    this.#unproven.add(socket)
    void this.#prove(socket).finally(() => this.#unproven.delete(socket))
  }

  async #prove(socket: Socket): Promise<void> {
    const penaltyMs = this.#faults === 0 ? 0 : Math.min(PENALTY_MS.most, PENALTY_MS.first * 2 ** (this.#faults - 1))
    if (penaltyMs > 0) await new Promise((resolve) => setTimeout(resolve, penaltyMs).unref())
    try {
      const { bootId, uptimeUs } = await resync(socket, { ...this.#options, bootId: this.#bootId })
      if (this.#ended !== null || socket.destroyed) return
      this.#bootId = bootId
      this.clock?.hear(uptimeUs)
      this.#use(new LinkSession(socket, this.#options.sandboxId))
    } catch (error) {
      socket.destroy()
      if (error instanceof OtherProtocol) this.#giveUp(error)
      this.#note(isPyroError(error) ? error : new PyroError('internal', 'a dial-in failed', { cause: error }))
    }
  }

  #use(session: LinkSession): void {
    this.#session?.destroy('a newer link took its place')
    this.#session = session
    this.#downSince = null
    this.#other = null
    this.#next.resolve(session)
    this.#awaitNext()
    void session.ended.then((reason) => {
      if (session.hostile) this.#note(reason)
      else this.#faults = 0
      if (this.#session === session) {
        this.#session = null
        this.#downSince = session.heardAt
      }
      this.#sessionEnded?.()
    })
  }

  /** Who waits for a session is told at once. */
  #giveUp(other: OtherProtocol): void {
    if (this.#ended !== null || this.connected) return
    this.#other = other
    this.#next.reject(other)
    this.#awaitNext()
  }

  #awaitNext(): void {
    this.#next = Promise.withResolvers<LinkSession>()
    this.#next.promise.then(null, noOneWaits)
  }

  #note(fault: PyroError): void {
    this.#lastFault = fault
    this.#faults += 1
  }
}

function listening(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(path, () => {
      server.off('error', reject)
      resolve()
    })
  })
}

const noOneWaits = (): void => undefined
