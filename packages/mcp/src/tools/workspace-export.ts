import { lines, type ToolOf } from '../tool.ts'
import { count, size } from '../text/quantity.ts'
import { oneLine } from '../text/terminal-text.ts'
import { workspaceOf } from '../workspace-handle.ts'

export const workspaceExport: ToolOf<'workspace.export'> = {
  call: async ({ workspace: reference, path, output, force }, context) => {
    await using target = await context.host.writable(output)
    const workspace = await workspaceOf(reference, context)
    const exported = await workspace.export(path, {
      output: target.path,
      force: force ?? false,
      signal: context.signal,
    })
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
