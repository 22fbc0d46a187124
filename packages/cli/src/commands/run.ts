import { commandOf } from '../args/command-line.ts'
import { exitOf, summaryOf } from '../render/command.ts'
import { showProgress, warnSkipped } from '../render/progress.ts'
import { attached } from './attached.ts'
import { inputOf, type Command } from './command.ts'
import { seedOf } from './seed-flags.ts'

export const command: Command = async (context) => {
  const { args, terminal, pyro } = context
  const { command: words, seed: _seed, stdin: _stdin, ...fields } = inputOf<'run'>(args)
  const result = await pyro.run(commandOf(words as string[]), {
    ...fields,
    ...attached(context),
    seed: seedOf(args),
    onProgress: showProgress(terminal),
    onSkipped: warnSkipped(terminal),
  })
  if (terminal.json) terminal.document(result)
  else if (terminal.talksToPerson) terminal.talk(summaryOf(result))
  if (result.kept) terminal.talk(`kept ${result.workspaceId}`)
  return exitOf(result)
}
