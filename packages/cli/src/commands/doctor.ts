import { EXIT } from '@pyro/protocol/client'
import type { Leak, ResultOf } from '@pyro/protocol'
import { escapeControls } from '../render/escape.ts'
import { inputOf, type Command } from './command.ts'
import { confirmed } from './confirm.ts'
import type { Terminal } from '../terminal.ts'

type Doctor = ResultOf<'doctor'>

export const command: Command = async (context) => {
  const { args, terminal, interrupts, pyro } = context
  const input = inputOf<'doctor'>(args)
  if (input.fix === true && !(await confirmed(context, 'Release what has no owner?'))) {
    terminal.talk('nothing was released')
    return EXIT.ok
  }
  const result = await pyro.doctor({ ...input, signal: interrupts.signal })
  if (terminal.json) terminal.document(result)
  else show(terminal, result)
  return exitOf(result)
}

const show = (terminal: Terminal, { capabilities, leaks, fixed }: Doctor): void => {
  for (const { id, ok, required, detail, fix } of capabilities) {
    const verdict = ok
      ? terminal.styled('green', 'PASS')
      : terminal.styled(required ? 'red' : 'yellow', required ? 'FAIL' : 'MISS')
    terminal.line(`${verdict}  ${id}: ${escapeControls(detail)}`)
    if (fix !== null && !ok) terminal.line(`      fix: ${escapeControls(fix)}`)
  }
  for (const leak of fixed ?? []) terminal.line(`${terminal.styled('green', 'GONE')}  ${leakText(leak)}`)
  for (const leak of leaks ?? []) terminal.line(`${terminal.styled('red', 'LEAK')}  ${leakText(leak)}`)
  if (leaks?.length === 0) terminal.line('no leaks')
}

const leakText = ({ kind, id, workspaceId, detail }: Leak): string =>
  escapeControls(`${kind} ${id}${workspaceId === null ? '' : ` of ${workspaceId}`}: ${detail}`)

const exitOf = ({ ok, leaks }: Doctor): number => {
  if (leaks !== null && leaks.length > 0) return EXIT.conflict
  return ok ? EXIT.ok : EXIT.unsupported
}
