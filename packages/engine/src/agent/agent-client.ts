import type { Readable, Writable } from 'node:stream'
import type { PyroError } from '@pyro/protocol'
import type { z } from 'zod'
import type {
  agentStatus,
  commandExit,
  commandListing,
  extractInput,
  extractResult,
  readFile,
  readFileResult,
  clockSet,
  setClock,
  signalCommand,
  StartCommand,
  writeFile,
  writeFileResult,
} from '@pyro/protocol/guest'

/** One chunk of a command's output. `cursor` counts payload bytes up to and including this chunk. */
export interface OutputChunk {
  readonly stream: 'stdout' | 'stderr'
  readonly data: Buffer
  readonly cursor: number
}

export type CommandExit = z.infer<typeof commandExit>

/** A reader of one command. Iterating it applies back-pressure up to the command itself. */
export interface CommandOutput extends AsyncIterable<OutputChunk> {
  /** Where the output really begins: later than asked for when the agent no longer keeps it. */
  readonly cursor: number
  /** Settles when the command ended and all output was read; rejects with `sandbox.unreachable` when the link or sandbox went. */
  readonly exit: Promise<CommandExit>
  /** Stops reading; the command goes on. */
  detach(): void
}

/**
 * The engine's side of one sandbox's link. Every answer is checked against its schema and bounded in size and time; what does
 * not fit ends the link with `sandbox.unreachable`, naming the sandbox. While the link is down calls wait for the redial up to
 * their deadline. Errors of the agent arrive as PyroError.
 */
export interface AgentClient {
  /** Boot id of the running agent; new for every sandbox. */
  readonly bootId: string
  readonly connected: boolean
  /** When the agent was last heard, by the host's clock, if there is no link; null while there is one. */
  readonly downSince: number | null
  /** Set while the agent is that of another version of Pyro, which answers nothing; then calls fail with it at once. */
  readonly other: PyroError | null
  status(options?: CallOptions): Promise<z.infer<typeof agentStatus>>
  /** Resolves when the command runs (or failed to start: then `exit` says why). */
  start(id: string, command: StartCommand, options?: CallOptions): Promise<CommandOutput>
  attach(id: string, cursor: number, options?: CallOptions): Promise<CommandOutput>
  /** Writable that feeds the command's stdin; ending it closes stdin. */
  stdin(id: string): Writable
  signal(id: string, request: z.infer<typeof signalCommand>, options?: CallOptions): Promise<void>
  /** Lets the agent forget an ended command, soon: with those that end meanwhile, unless it keeps much output of them. */
  release(id: string, outputBytes: number): Promise<void>
  commands(options?: CallOptions): Promise<z.infer<typeof commandListing>['commands']>
  readFile(request: z.infer<typeof readFile>, options?: CallOptions): Promise<z.infer<typeof readFileResult>>
  writeFile(request: z.infer<typeof writeFile>, options?: CallOptions): Promise<z.infer<typeof writeFileResult>>
  extract(
    request: z.infer<typeof extractInput>,
    archive: Readable,
    options?: CallOptions & { readonly onProgress?: (progress: { files: number; bytes: number }) => void },
  ): Promise<z.infer<typeof extractResult>>
  flush(options?: CallOptions): Promise<void>
  /** Of a sandbox with a disk image: all writing to the disk stands still until `thaw`, for two seconds at most. */
  freeze(options?: CallOptions): Promise<void>
  /** False when the disk did not stand still until now. */
  thaw(options?: CallOptions): Promise<boolean>
  /** Of a sandbox with a kernel of its own: runs a one-shot role of the agent on its disks. */
  role(name: 'populate' | 'inspect', signal: AbortSignal | undefined): Promise<RoleRun>
  /** How long it runs, in microseconds. */
  uptimeUs(options?: CallOptions): Promise<number>
  /** Of a sandbox with a clock of its own: what time it was when it ran for so long. */
  setClock(was: z.infer<typeof setClock>, options?: CallOptions): Promise<z.infer<typeof clockSet>>
  shutdown(options: { readonly graceMs: number }): Promise<void>
}

/** A one-shot role of the agent binary under way, wherever it runs. The owner awaits `ended`, which always settles after `kill`. */
export interface RoleRun {
  /** Null when it reads a file instead. Its errors are silent: the end of the role tells. */
  readonly stdin: Writable | null
  readonly output: AsyncIterable<readonly Uint8Array[]>
  readonly ended: Promise<RoleEnd>
  kill(): void
}

export interface RoleEnd {
  /** For people: how it ended. */
  readonly how: string
  readonly stderrTail: string
}

export interface CallOptions {
  readonly signal?: AbortSignal
  /** Default 10 s; extract: no progress for this long. */
  readonly timeoutMs?: number
}
