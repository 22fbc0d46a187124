import { isPyroError, PyroError } from '@pyro/protocol'
import type { HostPath } from '../host/host-paths.ts'
import { lines, type ToolOf } from '../tool.ts'
import { count, size } from '../text/quantity.ts'
import { oneLine } from '../text/terminal-text.ts'
import { workspaceOf } from '../workspace-handle.ts'

export const workspaceExport: ToolOf<'workspace.export'> = {
  call: async ({ workspace: reference, path, output, force }, context) => {
    await using target = await context.host.writable(output)
    const workspace = await workspaceOf(reference, context)
    const exported = await exportTo(target, (output) =>
      workspace.export(path, { output, force: force ?? false, signal: context.signal }),
    )
    const what =
      exported.type === 'directory' ? `${count(exported.files, 'file')}, ${size(exported.bytes)}` : size(exported.bytes)
    return {
      text: lines(
        `wrote ${oneLine(target.shown)} · ${what}`,
        exported.gitHooks ? 'it holds .git/hooks: programs that git would run on the host' : null,
        exported.skipped === 0
          ? null
          : `${count(exported.skipped, 'socket or device', 'sockets and devices')} left out`,
      ),
      structured: { ...exported, output: target.shown },
    }
  },
}

/** Writes by the descriptor of the checked parent; errors name the path as the model knows it. */
const exportTo = async <T>(target: HostPath, write: (output: string) => Promise<T>): Promise<T> => {
  try {
    return await write(target.pinned)
  } catch (error) {
    if (!isPyroError(error)) throw error
    const named = (text: string): string => text.replaceAll(target.pinned, target.shown)
    const hint = error.hint === null ? undefined : named(error.hint)
    throw new PyroError(error.code, named(error.message), { hint, cause: error })
  }
}
