import { OPERATIONS, PyroError, type McpInputOf } from '@pyro/protocol'
import { outcomeWithin } from '../calls.ts'
import type { Run } from '../runs.ts'
import { collectOutput, commandData, networkHint, outcomeLine, outputText, runningLine } from '../running-command.ts'
import { seedOf } from '../seed.ts'
import { lines, type Answer, type CallContext, type ToolOf } from '../tool.ts'
import { duration } from '../text/quantity.ts'
import { definedOnly } from './workspace-exec.ts'
import { stepText } from './workspace-create.ts'

const PROGRESS_INTERVAL_MS = 1000
/** The machine of a run has the sizes a workspace has when nothing is said. */
const DEFAULT_SIZE = OPERATIONS['workspace.create'].input.parse({})

export const run: ToolOf<'run'> = {
  ownDeadline: true,
  call: async (input, context) => {
    const { runId, command } = input
    if (runId !== undefined) return answer(context.runs.get(runId), context)
    if (command === undefined) {
      throw new PyroError('input.invalid', 'command is missing; nothing was run', {
        hint: 'give command, or the runId of an earlier run',
      })
    }
    return answer(await begin({ ...input, command }, context), context)
  },
}

type RunInput = McpInputOf<'run'> & { readonly command: string | string[] }

const begin = async (
  { command, seed: word, maxBytes, runId: _, ...options }: RunInput,
  context: CallContext,
): Promise<Run> => {
  const seed = await seedOf(word, context.host)
  const output = collectOutput(maxBytes)
  return context.runs.add(output, ({ signal, step }) =>
    context.pyro.run(command, {
      ...definedOnly(options),
      ...(seed === undefined ? {} : { seed }),
      signal,
      onProgress: (progress) => step(stepText(progress)),
      onStarted: () => step(null),
      onStdoutBytes: (bytes) => output.write('stdout', bytes),
      onStderrBytes: (bytes) => output.write('stderr', bytes),
      onGap: (bytes) => output.skip(bytes),
    }),
  )
}

/** Waits for a run. Cancelling the call that waits ends the run, and with it its workspace. */
const answer = async (current: Run, context: CallContext): Promise<Answer> => {
  const abort = (): void => current.controller.abort()
  context.signal.addEventListener('abort', abort, { once: true })
  const progress = setInterval(() => context.progress(current.step ?? current.output.lastLine), PROGRESS_INTERVAL_MS)
  try {
    const ended = await outcomeWithin(current.promise, context.calls.longestWaitMs())
    const elapsedMs = Date.now() - current.startedAtMs
    if (ended === null) {
      return {
        text:
          current.step === null
            ? lines(runningLine(current.id, elapsedMs, current.output), current.output.lastLine)
            : `${current.step} · ${duration(elapsedMs)} so far · ${current.id}`,
        structured: { runId: current.id, running: true, step: current.step },
      }
    }
    context.runs.forget(current)
    const { value } = ended
    const shown = current.output.finish()
    return {
      text: lines(
        outcomeLine(value, DEFAULT_SIZE).replace(` · ${value.commandId}`, ''),
        outputText(shown, () => 'run it again with a larger maxBytes'),
        networkHint(value, shown, 'off'),
      ),
      structured: commandData(value, shown),
    }
  } finally {
    clearInterval(progress)
    context.signal.removeEventListener('abort', abort)
  }
}
