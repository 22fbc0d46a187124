import type { InputOf } from '@pyro/protocol'
import { usageError } from '../../args/usage-error.ts'
import { escapeControls } from '../../render/escape.ts'
import { formatBytes } from '../../render/format.ts'
import { inputOf, type Command, type CommandContext } from '../command.ts'
import { hostContent } from './host-content.ts'

export const command: Command = async (context) => {
  const { args, terminal, interrupts, pyro } = context
  const input: InputOf<'workspace.file.write'> = {
    ...inputOf<'workspace.file.write'>(args),
    ...(await content(context)),
  }
  const result = await pyro.client.call('workspace.file.write', input, { signal: interrupts.signal })
  if (terminal.json) terminal.document(result)
  else {
    const what = result.replaced === null ? (result.created ? 'created' : 'wrote') : `replaced ${result.replaced} in`
    terminal.done(`${what} ${escapeControls(result.path)} (${formatBytes(result.sizeBytes)}, mode ${result.mode})`)
  }
  return 0
}

/** From `--text`, a file of this host, or standard input. */
const content = async ({
  args,
  terminal,
  interrupts,
}: CommandContext): Promise<{ textBase64: string } | Record<string, never>> => {
  const file = args.flags['file']
  if (args.input['text'] !== undefined) {
    if (file !== undefined) throw usageError('--text and --file exclude each other', 'choose one')
    return {}
  }
  const bytes = await hostContent(typeof file === 'string' ? file : '-', terminal, interrupts.signal)
  return { textBase64: bytes.toString('base64') }
}
