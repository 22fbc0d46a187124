import { isPyroError, type CommandResult, type ResultOf } from '@pyro/protocol'
import { errorFields } from '../../lib/log.ts'
import { ownCall } from '../../workspace/services.ts'
import type { Workspace } from '../../workspace/workspace.ts'
import { converse } from '../command-stream.ts'
import { EngineLeaving, type HandlerCall } from '../handler.ts'
import { progressTo } from '../handler.ts'
import { sayingOutcome } from '../refused-archive.ts'
import { earlierCommand, refuseLostInput, rememberEnd, replay, startOnce } from './command.ts'

/** How long the workspace of a `run` stays whose client went away: the result can be fetched meanwhile. */
const VANISHED_KEPT_MS = 10 * 60_000

/** Create, exec, delete. */
export const run = async (call: HandlerCall<'run'>): Promise<ResultOf<'run'>> => {
  const { engine, input, gone } = call
  const workspace = await ownWorkspace(call)
  let result: CommandResult
  try {
    refuseLostInput(engine, workspace, { ...call, ends: !input.keep })
    const earlier = earlierCommand(engine, workspace, call.requestId)
    if (earlier === null) {
      const running = await startOnce(engine, workspace, input, call)
      result = await converse({ ...call, workspace, running, stdin: input.stdin })
    } else result = await replay(call, workspace, earlier)
  } catch (error) {
    if (!(error instanceof EngineLeaving)) await end(call, workspace)
    throw error
  }
  if (gone.aborted) leaveForLater(call, workspace)
  else {
    // An engine that dies while it deletes takes the history along: the caller asks the next one for its command.
    if (!input.keep) rememberEnd(engine.services.store, result)
    await end(call, workspace)
  }
  return { ...result, kept: input.keep }
}

/** The workspace of this request: a repeated call finds the one that its first try has made. */
const ownWorkspace = async (call: HandlerCall<'run'>): Promise<Workspace> => {
  const { engine, input, upload, reply, requestId } = call
  const made = requestId === null ? null : engine.services.store.requests.get(requestId)
  if (made !== null && made.operation === 'workspace.create' && 'result' in made.outcome) {
    const { workspaceId } = made.outcome.result as ResultOf<'workspace.create'>
    const workspace = engine.workspaces.get(workspaceId)
    await workspace.adopted('run', call.signal)
    return workspace
  }
  const seed = input.seed === undefined ? null : upload.data
  const ephemeral = input.keep ? null : (requestId ?? 'run')
  const options = { ...input, ifAbsent: false }
  const created = await sayingOutcome('no workspace was made', () =>
    engine.workspaces.create(options, seed, { ...call, onProgress: progressTo(reply) }, ephemeral),
  )
  return engine.workspaces.get(created.workspaceId)
}

/** The caller does not wait longer than the delete takes, and a workspace that is gone already is as good. */
const end = async ({ engine, input }: HandlerCall<'run'>, workspace: Workspace): Promise<void> => {
  if (input.keep) return
  try {
    await engine.workspaces.deleteOne(workspace, ownCall())
  } catch (error) {
    if (!isPyroError(error)) throw error
    workspace.log.warn(errorFields(error), 'the workspace of a run was not deleted')
  }
}

const leaveForLater = ({ engine, input }: HandlerCall<'run'>, workspace: Workspace): void => {
  if (input.keep) return
  workspace.change({ expiresAt: Date.now() + VANISHED_KEPT_MS })
  engine.workspaces.scheduleExpiry()
}
