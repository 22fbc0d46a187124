import type { ToolOf } from '../tool.ts'
import { PyroError, isErrorCode } from '@pyro/protocol'
import { count } from '../text/quantity.ts'
import { oneLine } from '../text/terminal-text.ts'

export const workspaceDelete: ToolOf<'workspace.delete'> = {
  call: async ({ workspace }, { pyro, signal }) => {
    const { deleted, errors } = await pyro.workspaces.delete([workspace], { signal })
    const [failed] = errors
    if (failed !== undefined) {
      const code = isErrorCode(failed.code) ? failed.code : 'internal'
      throw new PyroError(code, failed.message, { hint: failed.hint ?? undefined })
    }
    const gone = deleted.map(({ name, snapshots }) => `deleted "${oneLine(name)}" with ${count(snapshots, 'snapshot')}`)
    return { text: gone.join('\n'), structured: { deleted } }
  },
}
