import { environmentLine } from '../../render/environment.ts'
import { formatDuration } from '../../render/format.ts'
import { showProgress } from '../../render/progress.ts'
import { inputOf, type Command } from '../command.ts'

export const command: Command = async ({ args, terminal, interrupts, pyro }) => {
  const { environment } = inputOf<'environment.pull'>(args)
  const result = await pyro.environments.pull(environment, {
    signal: interrupts.signal,
    onProgress: showProgress(terminal),
  })
  if (terminal.json) terminal.document(result)
  else {
    terminal.done(environmentLine(result))
    terminal.talk(result.pulled ? `pulled in ${formatDuration(result.durationMs)}` : 'was here already')
  }
  return 0
}
