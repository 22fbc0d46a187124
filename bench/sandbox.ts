import { dirname, join } from 'node:path'
import type { Pyro, Workspace } from '@pyro/sdk'

/** Name and folder of the sandbox that a workspace runs in (docs/on-disk-layout.md). */
export const sandboxOf = async (pyro: Pyro, workspace: Workspace): Promise<{ id: string; folder: string }> => {
  const { socket } = await pyro.engine.status()
  const id = `${workspace.id}-g${workspace.info.generation}`
  return { id, folder: join(dirname(socket), 'sandboxes', id) }
}
