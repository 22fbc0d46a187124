import { inputOf, type Command } from '../command.ts'

export const command: Command = async ({ args, terminal, interrupts, pyro }) => {
  const input = inputOf<'workspace.file.read'>(args)
  const result = await pyro.client.call('workspace.file.read', input, { signal: interrupts.signal })
  if (terminal.json) {
    terminal.document(result)
    return 0
  }
  await terminal.data(result.textBase64 === undefined ? result.text : Buffer.from(result.textBase64, 'base64'))
  if (result.more) terminal.talk(rest(result))
  return 0
}

const rest = ({
  startLine,
  lines,
  offset,
  bytes,
}: {
  startLine: number | null
  lines: number | null
  offset: number
  bytes: number
}): string =>
  startLine === null
    ? `the file goes on: --offset ${offset + bytes}`
    : `the file goes on: --start-line ${startLine + (lines ?? 0)}`
