import { isPyroError, PyroError, type CommandResult } from '@pyro/protocol'
import { withDeadline } from '../../lib/wait.ts'
import { interruptedError } from '../../workspace/commands/command-result.ts'
import { OutputReader, type ReadableCommand } from '../../workspace/commands/output-reader.ts'
import { CommandLog } from '../../workspace/commands/command-log.ts'
import type { RunningCommand } from '../../workspace/commands/running-command.ts'
import { execInWorkspace, type ExecFields } from '../../workspace/operations/exec.ts'
import type { CommandRow } from '../../store/commands.ts'
import type { Store } from '../../store/store.ts'
import type { Workspace } from '../../workspace/workspace.ts'
import { converse, forward } from '../command-stream.ts'
import type { Engine } from '../engine.ts'
import { EngineLeaving, type HandlerCall, type Handlers } from '../handler.ts'

/** Beyond the grace of a kill: a tree that KILL does not end in time is reported as running. */
const KILL_EXTRA_MS = 5_000

export const commandHandlers = {
  'workspace.exec': async (call) => {
    const { engine, input } = call
    const workspace = await adopted(call, 'exec')
    refuseLostInput(engine, workspace, { ...call, ends: false })
    const earlier = earlierCommand(engine, workspace, call.requestId)
    if (earlier !== null) return input.detach ? workspace.commands.result(earlier) : replay(call, workspace, earlier)
    const running = await startOnce(engine, workspace, input, call)
    if (input.detach) return workspace.commands.result(workspace.commands.row(running.row.id))
    return converse({ ...call, workspace, running, stdin: input.stdin })
  },

  'workspace.command.list': ({ engine, input }) => {
    const workspace = engine.workspaces.get(input.workspace)
    const { commands } = engine.services.store
    const rows = input.running
      ? workspace.commands.running().map(({ row }) => row)
      : commands.of(workspace.id, input.limit)
    return Promise.resolve({
      commands: rows.slice(-input.limit).map((row) => workspace.commands.result(workspace.commands.row(row.id))),
      total: commands.count(workspace.id),
    })
  },

  'workspace.command.wait': async (call) => {
    const { input, gone } = call
    const remembered = await rememberedEnd(call, 'command wait')
    if (remembered !== null) return remembered
    const { commands } = await adopted(call, 'command wait')
    const ended = commands.ended(input.commandId)
    const seen = commands.find(input.commandId)?.unlessLost(ended) ?? ended
    const result = await endWithin(seen, input.commandId, input.timeoutMs, gone)
    if (result.state === 'interrupted') throw interruptedError(result)
    return result
  },

  'workspace.command.kill': async (call) => {
    const { engine, input, gone } = call
    const workspace = await adopted(call, 'command kill')
    const { commands } = workspace
    const row = commands.row(input.commandId)
    if (row.state !== 'running' || workspace.sandbox === null) return commands.result(row)
    const ended = commands.ended(row.id)
    const graceMs = input.signal === 'TERM' ? engine.services.config.limits.killGraceMs : null
    try {
      await workspace.sandbox.agent.signal(row.id, { signal: input.signal, graceMs })
    } catch (error) {
      // It ended, and was forgotten inside, while the signal was on its way.
      if (!isPyroError(error) || error.code !== 'command.not-found') throw error
    }
    if (input.signal !== 'TERM' && input.signal !== 'KILL') return commands.result(commands.row(row.id))
    return endWithin(ended, row.id, (graceMs ?? 0) + KILL_EXTRA_MS, gone)
  },

  'workspace.logs': async (call) => {
    const { input, reply, gone } = call
    const remembered = await rememberedEnd(call, 'logs')
    if (remembered !== null) return remembered
    const workspace = await adopted(call, 'logs')
    const { commands } = workspace
    const commandId = input.commandId ?? commands.last()?.id
    if (commandId === undefined) {
      throw new PyroError(
        'command.not-found',
        `"${workspace.row.name}" has run no command since its start or last reset`,
        {
          hint: `pyro workspace exec ${workspace.row.name} -- CMD`,
        },
      )
    }
    const row = commands.row(commandId)
    const ended = commands.ended(commandId)
    const running = commands.find(commandId)
    if (running !== null && input.follow) {
      await readOut(running.read(input.cursor, true), reply, gone)
      const result = await ended
      if (result === null) throw new EngineLeaving()
      return result
    }
    const written = running === null ? finished(commands.logPath(commandId), row) : snapshotOf(running)
    await readOut(new OutputReader(written, { cursor: input.cursor, holding: false }), reply, gone)
    return commands.result(commands.row(commandId))
  },
} satisfies Partial<Handlers>

interface Asking extends Pick<HandlerCall<'workspace.logs'>, 'engine' | 'signal'> {
  readonly input: { readonly workspace: string }
}

/** The workspace, when it is known which of its commands run: a client of the engine before may be the first to ask. */
const adopted = async ({ engine, input, signal }: Asking, what: string): Promise<Workspace> => {
  await engine.workspaces.get(input.workspace).adopted(what, signal)
  return engine.workspaces.get(input.workspace)
}

/** The end of a command whose workspace is about to be deleted by its own `run`. */
export const rememberEnd = (store: Store, result: CommandResult): void =>
  store.requests.put(result.commandId, 'run', { result })

const rememberedEnd = async (
  { engine, input, signal }: Asking & { readonly input: { readonly commandId?: string | undefined } },
  what: string,
): Promise<CommandResult | null> => {
  await engine.workspaces.find(input.workspace)?.adopted(what, signal)
  if (input.commandId === undefined || engine.workspaces.find(input.workspace) !== null) return null
  const known = engine.services.store.requests.get(input.commandId)
  return known !== null && 'result' in known.outcome ? (known.outcome.result as CommandResult) : null
}

/** Starts the command of this request, or joins its first start: a repeated call finds its command again. */
export const startOnce = async (
  engine: Engine,
  workspace: Workspace,
  fields: ExecFields,
  call: HandlerCall<'workspace.exec' | 'run'>,
): Promise<RunningCommand> => {
  const { requestId } = call
  if (requestId === null) return execInWorkspace(workspace, fields, call)
  const known = engine.starts.get(requestId)
  if (known !== undefined) return known
  const started = findRunning(engine, workspace, requestId) ?? execInWorkspace(workspace, fields, call)
  engine.starts.set(requestId, Promise.resolve(started))
  try {
    return await started
  } finally {
    engine.starts.delete(requestId)
  }
}

const findRunning = (engine: Engine, workspace: Workspace, requestId: string): RunningCommand | null => {
  const row = engine.services.store.commands.byRequest(requestId)
  return row === null ? null : workspace.commands.find(row.id)
}

/** This request's command, when it has ended before the call was repeated. */
export const earlierCommand = (engine: Engine, workspace: Workspace, requestId: string | null): CommandRow | null => {
  if (requestId === null) return null
  const row = engine.services.store.commands.byRequest(requestId)
  return row === null || workspace.commands.find(row.id) !== null ? null : workspace.commands.row(row.id)
}

/**
 * A call whose command was begun by an engine that is gone, before its caller heard of it: what had been sent of its input is lost,
 * and its end was said to the command. `ends`: the refusal takes the command along.
 */
export const refuseLostInput = (
  engine: Engine,
  workspace: Workspace,
  call: Pick<HandlerCall<'workspace.exec' | 'run'>, 'requestId' | 'input'> & { readonly ends: boolean },
): void => {
  const { requestId, input, ends } = call
  if (requestId === null || !input.stdin || engine.starts.has(requestId)) return
  const row = engine.services.store.commands.byRequest(requestId)
  if (row === null) return
  const { id: workspaceId, row: owner } = workspace
  throw new PyroError(
    'engine.unreachable',
    `the engine ended before ${row.id} had its standard input; ${ends ? 'its workspace is deleted' : 'it goes on without'}`,
    {
      hint: ends ? 'run it again' : `pyro workspace command wait ${owner.name} ${row.id}`,
      data: { workspaceId, commandId: row.id },
    },
  )
}

/** What a command that has ended would have answered: its caller did not even hear that it had started. */
export const replay = async (
  { reply, gone }: Pick<HandlerCall<'workspace.exec' | 'run'>, 'reply' | 'gone'>,
  workspace: Workspace,
  row: CommandRow,
): Promise<CommandResult> => {
  void reply.event({ type: 'started', workspaceId: workspace.id, commandId: row.id })
  const written = finished(workspace.commands.logPath(row.id), row)
  await readOut(new OutputReader(written, { cursor: 0, holding: false }), reply, gone)
  const result = workspace.commands.result(row)
  if (result.state === 'interrupted') throw interruptedError(result)
  return result
}

const endWithin = async (
  ended: Promise<CommandResult | null>,
  commandId: string,
  timeoutMs: number | undefined,
  gone: AbortSignal,
): Promise<CommandResult> => {
  const left = new Promise<never>((_, reject) => {
    gone.addEventListener('abort', () => reject(new EngineLeaving()), { once: true })
  })
  const end = Promise.race([ended, left])
  const late = (): PyroError =>
    new PyroError('request.timed-out', `${commandId} still runs after ${timeoutMs} ms; it goes on`, {
      hint: 'wait again, or pyro workspace command kill WS CMD',
      data: { commandId },
    })
  const result = await (timeoutMs === undefined ? end : withDeadline(end, timeoutMs, late))
  if (result === null) throw new EngineLeaving()
  return result
}

const readOut = async (
  reader: OutputReader,
  reply: Parameters<typeof forward>[1] | Pick<Parameters<typeof forward>[1], 'stdout' | 'stderr' | 'event'>,
  gone: AbortSignal,
): Promise<void> => {
  const leave = (): void => void reader.close()
  gone.addEventListener('abort', leave, { once: true })
  try {
    if (!gone.aborted) await forward(reader, reply)
  } finally {
    gone.removeEventListener('abort', leave)
    await reader.close()
  }
}

/** What an ended command has left, as a reader takes it. */
const finished = (
  path: string,
  row: { readonly logBytes: number; readonly stdoutBytes: number; readonly stderrBytes: number },
): ReadableCommand => {
  const log = new CommandLog(path, 0)
  log.bytes = row.logBytes
  log.seal()
  return { log, cursor: row.stdoutBytes + row.stderrBytes, finished: true, leave: () => undefined }
}

/** A running command as if it had ended now: for a reader that does not follow. */
const snapshotOf = (running: RunningCommand): ReadableCommand => {
  const log = new CommandLog(running.log.path, 0)
  log.bytes = running.log.bytes
  log.seal()
  const cursor = running.log.sealed ? running.cursor : log.bytes
  return { log, cursor, finished: true, leave: () => undefined }
}
