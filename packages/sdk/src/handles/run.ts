import type { CommandInput, InputOf, Progress, ResultOf } from '@pyro/protocol'
import type { Seed } from '../host/seed.ts'
import { streamCommand } from '../transport/command.ts'
import type { Client } from '../transport/client.ts'
import { progressSink } from './environments.ts'
import { checkExit, splitOptions, type ExecOptions } from './exec.ts'

export type RunOptions = ExecOptions &
  Omit<InputOf<'run'>, 'command' | 'seed' | 'stdin'> & {
    readonly seed?: Seed | undefined
    readonly onProgress?: ((progress: Progress) => void) | undefined
    readonly onSkipped?: ((path: string, reason: string) => void) | undefined
  }

/** Creates a workspace, runs one command in it and deletes it. */
export const runOnce = async (
  client: Client,
  command: CommandInput,
  { seed, onProgress, onSkipped, ...options }: RunOptions,
): Promise<ResultOf<'run'>> => {
  const { fields, call } = splitOptions(options)
  const plan = seed === undefined ? undefined : await (await import('../host/seed.ts')).planSeed(seed, { onSkipped })
  const input = {
    ...fields,
    command,
    stdin: options.stdin !== undefined,
    ...(plan === undefined ? {} : { seed: plan.input }),
  }
  const upload = plan === undefined ? call.upload : { ...call.upload, data: plan.open }
  const progress = progressSink(onProgress)
  const sink = {
    ...call.sink,
    event: (event: unknown) => {
      progress(event)
      return call.sink.event?.(event)
    },
  }
  const result = await streamCommand(client, 'run', input, { ...call, upload, sink })
  if (options.check === true) checkExit(result)
  return result
}
