import type { ExecOptions } from '@pyro/sdk'
import type { CommandContext } from './command.ts'

/** Output, input and signals of a command that runs in the sandbox while we stand in for it on this terminal. */
export const attached = ({ args, terminal, interrupts }: CommandContext): Partial<ExecOptions> => {
  terminal.outputClosed.addEventListener('abort', () => interrupts.cancel(), { once: true })
  const output = terminal.json
    ? {}
    : {
        onStdoutBytes: (bytes: Uint8Array) => terminal.data(bytes),
        onStderrBytes: (bytes: Uint8Array) => terminal.dataError(bytes),
        onGap: (bytes: number) => terminal.talk(`… ${bytes} bytes of output were not kept …`),
      }
  let send: Parameters<NonNullable<ExecOptions['control']>>[0] | null = null
  return {
    ...output,
    signal: interrupts.signal,
    control: (given) => (send = given),
    // Before the command exists there is nothing a signal could go to: it cancels.
    onStarted: () => interrupts.forwardTo((signal) => send?.(signal === 'SIGINT' ? 'INT' : 'TERM')),
    ...(args.flags['stdin'] === true ? { stdin: terminal.input() as AsyncIterable<Uint8Array> } : {}),
  }
}
