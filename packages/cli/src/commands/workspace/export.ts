import { exportFiles } from '@pyro/sdk'
import { usageError } from '../../args/usage-error.ts'
import { counted, formatBytes } from '../../render/format.ts'
import { inputOf, type Command } from '../command.ts'
import { singleFile } from '../single-file.ts'

export const command: Command = async ({ args, terminal, interrupts, pyro }) => {
  const { workspace, path, snapshot } = inputOf<'workspace.export'>(args)
  const output = args.flags['output']
  if (typeof output !== 'string') {
    throw usageError(
      'pyro workspace export needs --output HOST',
      'for example: pyro workspace export fix dist --output ./dist',
    )
  }
  const toStdout = output === '-'
  if (toStdout && terminal.json) throw usageError('--output - and --json both want standard output', 'choose one')
  if (toStdout) terminal.outputClosed.addEventListener('abort', () => interrupts.cancel(), { once: true })
  const asTar = args.flags['format'] === 'tar'
  const write = (bytes: Uint8Array): void | Promise<void> => terminal.data(bytes)
  const result = await exportFiles(pyro.client, workspace, path, {
    signal: interrupts.signal,
    snapshot,
    force: args.flags['force'] === true,
    format: asTar ? 'tar' : 'files',
    output: toStdout ? (asTar ? write : singleFile(path, write)) : output,
  })
  if (terminal.json) terminal.document(result)
  else {
    const size = `${counted(result.files, 'file')}, ${formatBytes(result.bytes)}`
    terminal.talk(`exported ${result.path} (${size})${toStdout ? '' : ` to ${output}`}`)
  }
  if (result.skipped > 0)
    terminal.talk(`left out: ${counted(result.skipped, 'special file')} (devices, pipes, sockets)`)
  if (result.gitHooks)
    terminal.talk('warning: it brings .git/hooks, which git on this host would run; look at them first')
  return 0
}
