import { readLogs } from '@pyro/sdk'
import { summaryOf } from '../../render/command.ts'
import { inputOf, type Command } from '../command.ts'

export const command: Command = async ({ args, terminal, interrupts, pyro }) => {
  terminal.outputClosed.addEventListener('abort', () => interrupts.cancel(), { once: true })
  const input = inputOf<'workspace.logs'>(args)
  const result = await readLogs(pyro.client, input, {
    signal: interrupts.signal,
    output: ({ stream, bytes }) => {
      // With --follow each piece is a document of its own line.
      if (terminal.json) {
        if (input.follow === true) terminal.document({ stream, text: Buffer.from(bytes).toString() })
        return
      }
      return stream === 'stdout' ? terminal.data(bytes) : terminal.dataError(bytes)
    },
    gap: (bytes) => terminal.talk(`… ${bytes} bytes of output were not kept …`),
  })
  if (terminal.json) terminal.document(result)
  else if (terminal.talksToPerson) terminal.talk(summaryOf(result))
  return 0
}
