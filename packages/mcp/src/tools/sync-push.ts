import { PyroError } from '@pyro/protocol'
import { seedOf } from '../seed.ts'
import { lines, type ToolOf } from '../tool.ts'
import { count, size } from '../text/quantity.ts'
import { oneLine } from '../text/terminal-text.ts'
import { startedNote, workspaceOf } from '../workspace-handle.ts'
import { stepText } from './workspace-create.ts'

export const syncPush: ToolOf<'workspace.sync.push'> = {
  call: async ({ workspace: reference, source, dest, delete: remove }, context) => {
    const seed = await seedOf(source, context.host)
    if (seed === undefined) throw new PyroError('input.invalid', 'source must be "project" or a path in the project')
    const workspace = await workspaceOf(reference, context)
    const skipped: string[] = []
    const pushed = await workspace.push('git' in seed ? seed.git : seed.path, {
      git: 'git' in seed,
      dest,
      delete: remove,
      signal: context.signal,
      onProgress: (progress) => context.progress(stepText(progress)),
      onSkipped: (path, reason) => void skipped.push(`${oneLine(path)} (${reason})`),
    })
    const deleted = pushed.deleted === 0 ? '' : ` · ${count(pushed.deleted, 'other file')} deleted`
    return {
      text: lines(
        startedNote(workspace),
        `${count(pushed.files, 'file')}, ${size(pushed.bytes)} into ${oneLine(pushed.dest)}${deleted}`,
        skipped.length === 0 ? null : `not pushed: ${skipped.slice(0, 3).join(', ')}${skipped.length > 3 ? ', …' : ''}`,
      ),
      structured: { ...pushed, skipped },
    }
  },
}
