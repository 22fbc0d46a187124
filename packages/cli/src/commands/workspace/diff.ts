import { diffWorkspace, writeOutput } from '@pyro/sdk'
import type { ResultOf } from '@pyro/protocol'
import { usageError } from '../../args/usage-error.ts'
import { diffNames, diffStat, diffSummary, notInPatch } from '../../render/diff.ts'
import { inputOf, type Command, type CommandContext } from '../command.ts'
import { gitFolder, handBackHint } from '../hand-back.ts'

/** `--exit-code`, as git has it. */
const EXIT_DIFFERS = 1

export const command: Command = async (context) => {
  const { args, terminal, interrupts, pyro } = context
  const { workspace, ...input } = inputOf<'workspace.diff'>(args)
  const { stat, 'name-only': nameOnly } = args.flags
  const listOnly = stat === true || nameOnly === true
  const output = fileOf(context, listOnly)
  const { result, patch } = await diffWorkspace(pyro.client, workspace, {
    ...input,
    patch: !listOnly || output !== null,
    signal: interrupts.signal,
  })
  if (output !== null) await writeOutput(output, patch, interrupts.signal)
  if (terminal.json) terminal.document(result)
  else {
    await show(context, result, { patch: output === null ? patch : new Uint8Array(0), stat, nameOnly })
    if (patch.byteLength > 0) await sayWhereItApplies(context, result)
  }
  return args.flags['exit-code'] === true && !result.clean ? EXIT_DIFFERS : 0
}

/** The file that the patch goes to; null for standard output. */
const fileOf = ({ args, terminal }: CommandContext, listOnly: boolean): string | null => {
  const { output } = args.flags
  if (typeof output !== 'string') return null
  if (output !== '-') return output
  if (terminal.json) throw usageError('--output - and --json both want standard output', 'choose one')
  if (listOnly) throw usageError('--output - and a list both want standard output', 'leave out --stat or --name-only')
  return null
}

const sayWhereItApplies = async (
  { terminal, interrupts, pyro }: CommandContext,
  { workspaceId, root }: ResultOf<'workspace.diff'>,
): Promise<void> => {
  const here = gitFolder()
  if (here === null) return
  const { seed } = await pyro.client.call('workspace.status', { workspace: workspaceId }, { signal: interrupts.signal })
  const hint = handBackHint(here, { source: seed.source, root })
  if (hint !== null) terminal.talk(hint)
}

interface Shown {
  readonly patch: Uint8Array
  readonly stat: unknown
  readonly nameOnly: unknown
}

const show = async ({ terminal }: CommandContext, result: ResultOf<'workspace.diff'>, shown: Shown): Promise<void> => {
  if (shown.nameOnly === true) {
    for (const name of diffNames(result)) terminal.line(name)
  } else if (shown.stat === true) {
    if (result.entries.length > 0) terminal.line(diffStat(result))
  } else await terminal.data(shown.patch)
  for (const warning of notInPatch(result)) terminal.talk(warning)
  terminal.talk(diffSummary(result))
}
