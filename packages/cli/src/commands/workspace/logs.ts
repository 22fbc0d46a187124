import { readLogs, type LogsCall } from '@pyro/sdk'
import { summaryOf } from '../../render/command.ts'
import { OutputPieces } from '../../render/output-pieces.ts'
import type { Terminal } from '../../terminal.ts'
import { inputOf, type Command } from '../command.ts'

export const command: Command = async ({ args, terminal, interrupts, pyro }) => {
  terminal.outputClosed.addEventListener('abort', () => interrupts.cancel(), { once: true })
  const input = inputOf<'workspace.logs'>(args)
  const show = !terminal.json ? asItIs(terminal) : input.follow === true ? asDocuments(terminal) : NOTHING
  try {
    const result = await readLogs(pyro.client, input, { signal: interrupts.signal, output: show.output, gap: show.gap })
    show.end()
    if (terminal.json) terminal.document(result)
    else if (terminal.talksToPerson) terminal.talk(summaryOf(result))
    return 0
  } catch (error) {
    show.end()
    throw error
  }
}

type Show = Required<Pick<LogsCall, 'output' | 'gap'>> & { readonly end: () => void }

/** The document of the command tells of its output. */
const NOTHING: Show = { output: () => undefined, gap: () => undefined, end: () => undefined }

const asItIs = (terminal: Terminal): Show => ({
  output: ({ stream, bytes }) => (stream === 'stdout' ? terminal.data(bytes) : terminal.dataError(bytes)),
  gap: (bytes) => terminal.talk(`… ${bytes} bytes of output were not kept …`),
  end: () => undefined,
})

/** Each piece of output is a document of its own line, and so is what is missing of it. */
const asDocuments = (terminal: Terminal): Show => {
  const pieces = new OutputPieces()
  const end = (): void => {
    for (const piece of pieces.flush()) terminal.document(piece)
  }
  return {
    output: ({ stream, bytes }) => {
      const piece = pieces.push(stream, bytes)
      // As raw bytes would, the documents hold back a command that prints faster than they are read.
      return piece === null ? undefined : terminal.data(`${JSON.stringify(piece)}\n`)
    },
    gap: (bytes) => {
      end()
      terminal.document({ type: 'gap', bytes })
    },
    end,
  }
}
