import { EXIT } from '@pyro/protocol/client'
import type { Leak, ResultOf } from '@pyro/protocol'
import { escapeControls } from '../render/escape.ts'
import { counted } from '../render/format.ts'
import { table } from '../render/table.ts'
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
  if (fixed !== null && fixed.length > 0) terminal.line(`released\n${leakTable(fixed)}`)
  if (leaks === null) return
  if (leaks.length === 0) terminal.line('no leaks')
  else terminal.line(`${counted(leaks.length, 'leak')}\n${leakTable(leaks)}`)
}

const leakTable = (leaks: readonly Leak[]): string =>
  table(
    ['KIND', 'ID', 'WORKSPACE', 'DETAIL'],
    leaks.map(({ kind, id, workspaceId, detail }) => [kind, id, workspaceId ?? '-', detail]),
  )

const exitOf = ({ ok, leaks }: Doctor): number => {
  if (leaks !== null && leaks.length > 0) return EXIT.conflict
  return ok ? EXIT.ok : EXIT.unsupported
}
