import { pipeline } from 'node:stream/promises'
import { isPyroError, PyroError, type CommandResult } from '@pyro/protocol'
import type { Sandbox } from '../driver/driver.ts'
import { errorFields } from '../lib/log.ts'
import { interruptedError } from '../workspace/commands/command-result.ts'
import { isGap, type OutputReader } from '../workspace/commands/output-reader.ts'
import type { RunningCommand } from '../workspace/commands/running-command.ts'
import type { Workspace } from '../workspace/workspace.ts'
import { EngineLeaving } from './handler.ts'
import type { Reply } from './reply.ts'
import type { Upload } from './request-body.ts'

/** How long a caller that cancelled waits for the end of its command. A sandbox that is frozen or hostile never tells. */
const KILL_ANSWER_MS = 5_000

/** `{ type: 'started' | 'stdin-taken' | 'gap' }`, as exec and run send them. */
interface CommandEvents {
  event(
    event:
      | { type: 'started'; workspaceId: string; commandId: string }
      | { type: 'stdin-taken' }
      | { type: 'gap'; bytes: number },
  ): Promise<void> | null
}

export interface CommandConversation {
  readonly workspace: Workspace
  readonly running: RunningCommand
  readonly reply: Pick<Reply<never>, 'stdout' | 'stderr'> & CommandEvents
  readonly upload: Upload
  /** Whether standard input follows. */
  readonly stdin: boolean
  /** Kills the command. */
  readonly signal: AbortSignal
  /** Nobody reads any more; the command goes on. */
  readonly gone: AbortSignal
}

/**
 * Connects a caller with its command until the command ends. A caller that vanishes leaves the command alone; one that cancels
 * kills its tree.
 */
export const converse = async (talk: CommandConversation): Promise<CommandResult> => {
  const { workspace, running, reply, signal, gone } = talk
  const commandId = running.row.id
  // Asked for now: a reset clears the history.
  const ended = workspace.commands.ended(commandId)
  const reader = running.read(0, true)
  const leave = (): void => void reader.close()
  gone.addEventListener('abort', leave, { once: true })
  const { sandbox } = workspace
  const over = new AbortController()
  let unanswered: NodeJS.Timeout | undefined
  let gaveUp = false
  const kill = (): void => {
    void send(workspace, sandbox, commandId, 'KILL')
    unanswered = setTimeout(() => {
      gaveUp = true
      leave()
    }, KILL_ANSWER_MS)
  }
  signal.addEventListener('abort', kill, { once: true })
  if (signal.aborted) kill()
  try {
    if (gone.aborted) leave()
    void reply.event({ type: 'started', workspaceId: workspace.id, commandId })
    connectInput(talk, sandbox, over.signal)
    await forward(reader, reply)
    if (gaveUp) throw unconfirmed(signal, workspace.row.name, commandId)
    const result = await ended
    if (result === null) throw new EngineLeaving()
    if (signal.aborted) throw cancelledCommand(signal, result)
    if (result.state === 'interrupted') throw interruptedError(result)
    return result
  } finally {
    over.abort()
    gone.removeEventListener('abort', leave)
    signal.removeEventListener('abort', kill)
    clearTimeout(unanswered)
    await reader.close()
  }
}

/** Output to the caller until the reader ends; gaps are named. */
export const forward = async (reader: OutputReader, reply: CommandConversation['reply']): Promise<void> => {
  for (let item = await reader.next(); item !== null; item = await reader.next()) {
    const sent = isGap(item)
      ? reply.event({ type: 'gap', bytes: item.gapBytes })
      : item.stream === 'stdout'
        ? reply.stdout(item.data)
        : reply.stderr(item.data)
    if (sent !== null) await sent
  }
}

/** `over`: the answer is complete, and nothing may be said any more. */
const connectInput = (
  { workspace, running, reply, upload, stdin }: CommandConversation,
  sandbox: Sandbox | null,
  over: AbortSignal,
): void => {
  const commandId = running.row.id
  upload.onControl((message) => {
    const signalName = signalOf(message)
    if (signalName !== null) void send(workspace, sandbox, commandId, signalName)
  })
  if (!stdin || sandbox === null) return
  // A command that ends, or closes its input, ends the transfer; what it exits with is its result.
  pipeline(upload.stdin, sandbox.agent.stdin(commandId)).then(
    () => {
      if (!over.aborted) void reply.event({ type: 'stdin-taken' })
    },
    (error: unknown) => {
      workspace.log.debug({ command: commandId, ...errorFields(error) }, 'standard input ended early')
    },
  )
}

const signalOf = (message: unknown): string | null => {
  const { type, signal } = message as { type?: unknown; signal?: unknown }
  return type === 'signal' && typeof signal === 'string' ? signal : null
}

/** A command that has ended takes no signal, and needs none. */
const send = async (workspace: Workspace, sandbox: Sandbox | null, commandId: string, name: string): Promise<void> => {
  try {
    await sandbox?.agent.signal(commandId, { signal: name, graceMs: null })
  } catch (error) {
    if (!isPyroError(error)) throw error
    workspace.log.debug({ command: commandId, signal: name, ...errorFields(error) }, 'a signal was not delivered')
  }
}

const cancelledCommand = (signal: AbortSignal, result: CommandResult): PyroError =>
  new PyroError('request.cancelled', `${result.commandId} was killed because its caller cancelled`, {
    data: { command: { ...result } },
    cause: signal.reason,
  })

const unconfirmed = (signal: AbortSignal, name: string, commandId: string): PyroError =>
  new PyroError(
    'request.cancelled',
    `${commandId} was told to end because its caller cancelled; its sandbox does not answer`,
    {
      hint: `pyro workspace reset ${name}`,
      data: { commandId },
      cause: signal.reason,
    },
  )
