import { pushFiles } from '@pyro/sdk'
import { escapeControls } from '../../render/escape.ts'
import { counted, formatBytes } from '../../render/format.ts'
import { showProgress, warnSkipped } from '../../render/progress.ts'
import { inputOf, type Command } from '../command.ts'

export const command: Command = async ({ args, terminal, interrupts, pyro }) => {
  const { workspace, ...input } = inputOf<'workspace.sync.push'>(args)
  const result = await pushFiles(pyro.client, workspace, args.host['SRC'] ?? '', {
    ...input,
    git: args.flags['git'] === true,
    signal: interrupts.signal,
    onProgress: showProgress(terminal),
    onSkipped: warnSkipped(terminal),
  })
  if (terminal.json) terminal.document(result)
  else {
    const deleted = result.deleted === 0 ? '' : `, deleted ${counted(result.deleted, 'path')}`
    const size = `${counted(result.files, 'file')}, ${formatBytes(result.bytes)}`
    terminal.done(`pushed ${size} to ${escapeControls(result.dest)}${deleted}`)
  }
  return 0
}
