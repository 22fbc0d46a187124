import { writeFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { diffWorkspace } from '@pyro/sdk'
import { PyroError } from '@pyro/protocol/client'
import type { ResultOf } from '@pyro/protocol'
import { diffNames, diffStat, diffSummary, notInPatch } from '../../render/diff.ts'
import { inputOf, type Command, type CommandContext } from '../command.ts'

/** `--exit-code`, as git has it. */
const EXIT_DIFFERS = 1

export const command: Command = async (context) => {
  const { args, terminal, interrupts, pyro } = context
  const { workspace, ...input } = inputOf<'workspace.diff'>(args)
  const { output, stat, 'name-only': nameOnly } = args.flags
  const listOnly = stat === true || nameOnly === true
  const { result, patch } = await diffWorkspace(pyro.client, workspace, {
    ...input,
    patch: !listOnly || output !== undefined,
    signal: interrupts.signal,
  })
  if (typeof output === 'string') writeOutput(output, patch)
  if (terminal.json) terminal.document(result)
  else await show(context, result, { patch: output === undefined ? patch : new Uint8Array(0), stat, nameOnly })
  return args.flags['exit-code'] === true && !result.clean ? EXIT_DIFFERS : 0
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

/** The user named this file on their own host: it is replaced, as `>` would. */
const writeOutput = (path: string, patch: Uint8Array): void => {
  try {
    writeFileSync(path, patch)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') {
      const folder = dirname(resolve(path))
      throw new PyroError('path.not-found', `the folder ${folder} does not exist; nothing was written`, {
        hint: `mkdir -p ${folder}`,
        data: { path },
        cause: error,
      })
    }
    throw new PyroError('path.unwritable', `${path} cannot be written (${code}); nothing was written`, {
      data: { path },
      cause: error,
    })
  }
}
