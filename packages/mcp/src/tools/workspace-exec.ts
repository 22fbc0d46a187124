import type { CommandResult } from '@pyro/protocol'
import { outcomeWithin } from '../calls.ts'
import {
  collectOutput,
  commandData,
  networkHint,
  OUTPUT_LIMIT_BYTES,
  outcomeLine,
  outputText,
  runningLine,
} from '../running-command.ts'
import { callText, lines, type ToolOf } from '../tool.ts'
import { startedNote, workspaceOf } from '../workspace-handle.ts'

/** How often a client that asked for progress hears of a running command. */
const PROGRESS_INTERVAL_MS = 1000
/** How long a command may take to exist before a call with waitMs 0 answers. */
const START_LIMIT_MS = 20_000

export const workspaceExec: ToolOf<'workspace.exec'> = {
  ownDeadline: true,
  call: async ({ workspace: reference, command, waitMs, maxBytes, ...options }, context) => {
    const workspace = await workspaceOf(reference, context)
    const output = collectOutput(maxBytes)
    const startedAtMs = Date.now()
    const started = Promise.withResolvers<string>()
    // Only while the call waits does its cancellation end the command.
    const cancel = new AbortController()
    const abort = (): void => cancel.abort()
    context.signal.addEventListener('abort', abort, { once: true })
    const progress = setInterval(() => context.progress(output.lastLine), PROGRESS_INTERVAL_MS)
    const result = workspace.exec(command, {
      ...definedOnly(options),
      signal: cancel.signal,
      onStarted: ({ commandId }) => started.resolve(commandId),
      onStdoutBytes: (bytes) => output.write('stdout', bytes),
      onStderrBytes: (bytes) => output.write('stderr', bytes),
      onGap: (bytes) => output.skip(bytes),
    })
    result.catch((error: unknown) => started.reject(error))
    started.promise.catch(() => undefined)
    const fetchCall = (commandId: string) => (offset: number) =>
      callText('command_wait', { workspace: reference, commandId, offset, maxBytes: OUTPUT_LIMIT_BYTES })
    try {
      const ended = await outcomeWithin<CommandResult>(result, context.calls.longestWaitMs(waitMs))
      if (ended !== null) {
        const shown = output.finish()
        const { value } = ended
        return {
          text: lines(
            outcomeLine(value, { ...workspace.info, timeoutMs: options.timeoutMs }),
            startedNote(workspace),
            outputText(shown, fetchCall(value.commandId)),
            networkHint(value, shown, workspace.info.network),
          ),
          structured: commandData(value, shown),
        }
      }
      const first = await outcomeWithin(started.promise, Math.max(0, START_LIMIT_MS - (Date.now() - startedAtMs)))
      const commandId = first?.value ?? null
      const offset = output.offset
      const shown = output.finish()
      const id = commandId ?? 'not started yet: workspace_list tells when it runs'
      return {
        text: lines(
          commandId !== null && waitMs === 0 ? `running · ${id}` : runningLine(id, Date.now() - startedAtMs, output),
          startedNote(workspace),
          outputText(shown, fetchCall(commandId ?? '')),
        ),
        structured: { commandId, running: true, offset, output: shown.head + shown.tail, leftOut: shown.leftOut },
      }
    } finally {
      clearInterval(progress)
      context.signal.removeEventListener('abort', abort)
    }
  },
}

/** Optional fields that were not given must not be passed on as `undefined`. */
export const definedOnly = <T extends object>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined> } =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>
  }
