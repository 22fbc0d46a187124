import { PyroError } from '@pyro/protocol/client'
import type { CommandInput, CommandResult, InputOf } from '@pyro/protocol'
import { streamCommand, type CommandSignal } from '../transport/command.ts'
import { textDecoder } from '../transport/output.ts'
import type { CallOptions, Client } from '../transport/client.ts'
import type { Sink } from '../transport/stream.ts'
import type { Upload } from '../transport/upload.ts'
import { Command } from './command.ts'

/** Text, bytes, or a stream of bytes for the standard input of a command. */
export type StdinInput = string | Uint8Array | AsyncIterable<Uint8Array | string>

export interface OutputOptions {
  /** Output as text, in order of arrival; characters are never cut in two. */
  readonly onStdout?: ((text: string) => void | Promise<void>) | undefined
  readonly onStderr?: ((text: string) => void | Promise<void>) | undefined
  /** The same as bytes. A promise that is returned holds the command's output back. */
  readonly onStdoutBytes?: ((bytes: Uint8Array) => void | Promise<void>) | undefined
  readonly onStderrBytes?: ((bytes: Uint8Array) => void | Promise<void>) | undefined
  /** Output that was dropped before it could be sent, in bytes. */
  readonly onGap?: ((bytes: number) => void) | undefined
}

export type ExecOptions = CallOptions &
  OutputOptions &
  Omit<InputOf<'workspace.exec'>, 'workspace' | 'command' | 'stdin' | 'detach'> & {
    readonly stdin?: StdinInput | undefined
    /** Throw `command.failed` when the command does not end with 0. */
    readonly check?: boolean | undefined
    /** Called once the command exists. */
    readonly onStarted?: ((started: { workspaceId: string; commandId: string }) => void) | undefined
    /** Gets a function that sends a signal to the running command. */
    readonly control?: ((send: (signal: CommandSignal) => void) => void) | undefined
  }

export const execCommand = async (
  client: Client,
  workspace: string,
  command: CommandInput,
  options: ExecOptions,
): Promise<CommandResult> => {
  const { fields, call } = splitOptions(options)
  const input = { workspace, command, ...fields, stdin: options.stdin !== undefined }
  const result = await streamCommand(client, 'workspace.exec', input, call)
  if (options.check === true) checkExit(result)
  return result
}

export const startCommand = async (
  client: Client,
  workspace: string,
  command: CommandInput,
  options: ExecOptions,
): Promise<Command> => {
  const { fields, call } = splitOptions(options)
  const input = { workspace, command, ...fields, stdin: options.stdin !== undefined, detach: true }
  return new Command(client, await streamCommand(client, 'workspace.exec', input, call))
}

/** Parts the fields of the input from what stays in this process. */
export const splitOptions = <Options extends ExecOptions>(options: Options) => {
  const {
    signal,
    stdin,
    check: _check,
    onStdout: _onStdout,
    onStderr: _onStderr,
    onStdoutBytes: _onStdoutBytes,
    onStderrBytes: _onStderrBytes,
    onGap: _onGap,
    onStarted,
    control,
    ...fields
  } = options
  const upload: Upload | undefined = stdin === undefined ? undefined : { stdin: () => stdinSource(stdin) }
  return { fields, call: { signal, upload, control, started: onStarted, sink: outputSink(options) } }
}

/** Delivers output to the callbacks, text through a decoder per stream. */
export const outputSink = (options: OutputOptions): Sink => {
  const stdout = delivery(options.onStdout, options.onStdoutBytes)
  const stderr = delivery(options.onStderr, options.onStderrBytes)
  const flush = async (): Promise<void> => {
    await stdout.flush?.()
    await stderr.flush?.()
  }
  return {
    stdout: stdout.deliver,
    stderr: stderr.deliver,
    event: async (event) => {
      const { type, bytes } = event as { type: string; bytes: number }
      if (type !== 'gap') return
      await flush()
      options.onGap?.(bytes)
    },
    end: flush,
  }
}

interface Delivery {
  readonly deliver: Sink['stdout']
  /** Delivers the beginning of a character whose rest does not come. */
  readonly flush?: () => Promise<void>
}

const delivery = (onText: OutputOptions['onStdout'], onBytes: OutputOptions['onStdoutBytes']): Delivery => {
  if (onText === undefined) return { deliver: onBytes }
  const decoder = textDecoder()
  return {
    deliver: async (bytes) => {
      const text = decoder.decode(bytes, { stream: true })
      if (text !== '') await onText(text)
      await onBytes?.(bytes)
    },
    flush: async () => {
      const rest = decoder.decode()
      if (rest !== '') await onText(rest)
    },
  }
}

export const checkExit = (result: CommandResult): void => {
  if (result.exitCode === 0) return
  const why = result.timedOut ? 'timed out' : `ended with ${result.signal ?? `exit code ${result.exitCode}`}`
  throw new PyroError('command.failed', `${shown(result.command)} ${why}`, {
    hint: `pyro workspace logs ${result.workspaceId} --command ${result.commandId}`,
    data: { command: result },
  })
}

const shown = (command: CommandInput): string => (typeof command === 'string' ? command : command.join(' '))

async function* stdinSource(input: StdinInput): AsyncGenerator<Uint8Array, void, undefined> {
  if (typeof input === 'string' || input instanceof Uint8Array) {
    yield Buffer.from(input)
    return
  }
  for await (const chunk of input) yield typeof chunk === 'string' ? Buffer.from(chunk) : chunk
}
