import { isPyroError, PyroError } from '@pyro/protocol'
import type { Workspace } from '@pyro/sdk'
import type { CallContext } from './tool.ts'
import { duration } from './text/quantity.ts'

/** The workspace a call names; says so when it is still being created. */
export const workspaceOf = async (reference: string, context: CallContext): Promise<Workspace> => {
  try {
    return await context.pyro.workspaces.get(reference, { signal: context.signal })
  } catch (error) {
    if (!isPyroError(error) || error.code !== 'workspace.not-found') throw error
    const creation = context.creations.get(reference)
    if (creation === undefined) throw error
    if (creation.failure !== null) throw creation.failure
    const age = duration(Date.now() - creation.startedAtMs)
    throw new PyroError('workspace.busy', `"${reference}" is still being created (${creation.step}, ${age} so far)`, {
      hint: 'workspace_list says when it is running',
      cause: error,
    })
  }
}

/** A stopped workspace is started by what needs it; the answer says so. */
export const startedNote = (workspace: Workspace): string | null =>
  workspace.info.phase === 'stopped' || workspace.info.phase === 'failed'
    ? `the workspace was ${workspace.info.phase}; it was started for this`
    : null
