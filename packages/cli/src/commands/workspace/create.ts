import { createWorkspace } from '@pyro/sdk'
import { formatDuration } from '../../render/format.ts'
import { showProgress, warnSkipped } from '../../render/progress.ts'
import { seedOf as seedText, workspaceLine } from '../../render/workspace.ts'
import { inputOf, type Command } from '../command.ts'
import { seedOf } from '../seed-flags.ts'

export const command: Command = async ({ args, terminal, interrupts, pyro }) => {
  const created = await createWorkspace(pyro.client, {
    ...inputOf<'workspace.create'>(args),
    seed: seedOf(args),
    signal: interrupts.signal,
    onProgress: showProgress(terminal),
    onSkipped: warnSkipped(terminal),
  })
  if (terminal.json) terminal.document(created)
  else if (args.flags['id-only'] === true) terminal.line(created.workspaceId)
  else {
    terminal.line(workspaceLine(created))
    const seed = seedText(created)
    if (seed !== null) terminal.talk(`seeded ${seed}`)
    terminal.talk(`${created.created ? 'created' : 'found'} in ${formatDuration(created.durationMs)}`)
  }
  return 0
}
