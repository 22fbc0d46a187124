import { escapeControls } from '../../render/escape.ts'
import type { Command } from '../command.ts'

export const command: Command = async ({ args, terminal, interrupts }) => {
  const { serve } = await import('@pyro/mcp')
  const serving = await serve(args.input)
  // Over stdio, standard output belongs to the protocol.
  if (serving.url !== null) {
    const { url, tokenFile } = serving
    if (terminal.json) terminal.document({ url, tokenFile })
    else terminal.line(escapeControls(`listening on ${url}, bearer token in ${tokenFile}`))
  }
  interrupts.signal.addEventListener('abort', () => void serving.close(), { once: true })
  await serving.closed
  return interrupts.exitCode ?? 0
}
