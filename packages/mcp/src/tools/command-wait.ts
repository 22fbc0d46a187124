import { isPyroError, type CommandResult } from '@pyro/protocol'
import type { Workspace } from '@pyro/sdk'
import { CommandOutput } from '../text/command-output.ts'
import {
  commandData,
  OUTPUT_LIMIT_BYTES,
  outcomeLine,
  outputBudget,
  outputText,
  runningLine,
} from '../running-command.ts'
import { callText, lines, type CallContext, type ToolOf } from '../tool.ts'
import { workspaceOf } from '../workspace-handle.ts'

/** From TERM to KILL the engine takes 5 s; the answer comes after that. */
const KILL_LIMIT_MS = 10_000
const PROGRESS_INTERVAL_MS = 1000

export const commandWait: ToolOf<'workspace.command.wait'> = {
  ownDeadline: true,
  call: async ({ workspace: reference, commandId, waitMs, stream, offset, maxBytes, kill }, context) => {
    const workspace = await workspaceOf(reference, context)
    if (kill === true) await killCommand(workspace, commandId, context)
    const output = new CommandOutput({
      maxBytes: outputBudget(maxBytes),
      keep: offset === undefined ? 'both' : 'head',
      startOffset: offset ?? 0,
    })
    const progress = setInterval(() => context.progress(output.lastLine), PROGRESS_INTERVAL_MS)
    try {
      const result = await readUntil(workspace, { commandId, stream, waitMs }, output, context)
      const reached = output.offset
      const shown = output.finish()
      const fetchCall = (from: number): string =>
        callText('command_wait', {
          workspace: reference,
          commandId,
          offset: from,
          maxBytes: OUTPUT_LIMIT_BYTES,
          ...(stream === undefined ? {} : { stream }),
        })
      const running = result.state === 'running'
      const headline = running
        ? runningLine(commandId, Date.now() - Date.parse(result.startedAt), output)
        : outcomeLine(result, workspace.info)
      const text = output.closed
        ? `${shown.head}… more: ${fetchCall(shown.leftOut?.offset ?? reached)}`
        : outputText(shown, fetchCall)
      const goOn = running && !output.closed ? `new output begins at offset ${reached}` : null
      return {
        text: lines(headline, text, goOn),
        structured: { ...commandData(result, shown), running, offset: reached },
      }
    } finally {
      clearInterval(progress)
    }
  },
}

interface Reading {
  readonly commandId: string
  readonly stream: 'stdout' | 'stderr' | undefined
  readonly waitMs: number
}

/** Reads what there is, then goes on until the command ends, the page is full or the time is over. */
const readUntil = async (
  workspace: Workspace,
  reading: Reading,
  output: CommandOutput,
  context: CallContext,
): Promise<CommandResult> => {
  const available = await readOutput(workspace, { ...reading, follow: false }, output, context.signal)
  if (available === null) return statusOf(workspace, reading.commandId, output.offset, context)
  if (available.state !== 'running' || reading.waitMs === 0) return available
  const stop = new AbortController()
  const timer = setTimeout(() => stop.abort(), context.calls.longestWaitMs(reading.waitMs))
  const signal = AbortSignal.any([stop.signal, context.signal])
  try {
    const result = await readOutput(workspace, { ...reading, follow: true }, output, signal)
    if (result !== null) return result
  } catch (error) {
    if (context.signal.aborted || !(isPyroError(error) && error.code === 'request.cancelled')) throw error
  } finally {
    clearTimeout(timer)
  }
  return statusOf(workspace, reading.commandId, output.offset, context)
}

/** Reads on from where `output` stands; null when the page is full. */
const readOutput = async (
  workspace: Workspace,
  { commandId, stream, follow }: Reading & { readonly follow: boolean },
  output: CommandOutput,
  signal: AbortSignal,
): Promise<CommandResult | null> => {
  const logs = workspace.logs({ commandId, cursor: output.offset, follow, signal })
  for (;;) {
    const next = await logs.next()
    if (next.done === true) return next.value
    const { stream: from, bytes } = next.value
    if (stream === undefined || stream === from) output.write(from, bytes)
    else output.skip(bytes.byteLength)
    if (output.closed) {
      await logs.return(undefined as never)
      return null
    }
  }
}

/** How the command stands; what it printed beyond `cursor` is passed over. */
const statusOf = async (
  workspace: Workspace,
  commandId: string,
  cursor: number,
  { signal }: CallContext,
): Promise<CommandResult> => {
  const logs = workspace.logs({ commandId, cursor, follow: false, signal })
  for (;;) {
    const next = await logs.next()
    if (next.done === true) return next.value
  }
}

const killCommand = async (workspace: Workspace, commandId: string, { signal }: CallContext): Promise<void> => {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(KILL_LIMIT_MS)])
  await workspace.commands.kill(commandId, 'TERM', { signal: limit })
}
