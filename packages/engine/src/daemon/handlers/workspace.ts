import type { ParsedInputOf } from '@pyro/protocol'
import { diffStates, exportState } from '../../workspace/operations/look.ts'
import { resetWorkspace } from '../../workspace/operations/reset.ts'
import { startWorkspace } from '../../workspace/operations/start.ts'
import { stopWorkspace } from '../../workspace/operations/stop.ts'
import type { Workspace } from '../../workspace/workspace.ts'
import { refuseManyLabels, type Workspaces } from '../../workspace/workspaces.ts'
import { progressTo, type Handlers } from '../handler.ts'
import { sayingOutcome } from '../refused-archive.ts'

export const workspaceHandlers = {
  'workspace.create': async (call) => {
    const { input, upload, reply, engine } = call
    const seed = input.seed === undefined ? null : upload.data
    const onProgress = progressTo(reply)
    return sayingOutcome('no workspace was made', () => engine.workspaces.create(input, seed, { ...call, onProgress }))
  },

  'workspace.list': async ({ engine, input }) => ({
    workspaces: await Promise.all(engine.workspaces.list(input).map((workspace) => workspace.freshRecord())),
  }),

  'workspace.status': ({ engine, input }) => engine.workspaces.get(input.workspace).freshRecord(),

  'workspace.update': (call) => {
    const workspace = call.engine.workspaces.get(call.input.workspace)
    return workspace.turn('update', 'update', call.signal, () => {
      update(call.engine.workspaces, workspace, call.input)
      return Promise.resolve(workspace.record())
    })
  },

  'workspace.delete': (call) => call.engine.workspaces.delete(call.input, call),

  'workspace.stop': (call) => {
    const workspace = call.engine.workspaces.get(call.input.workspace)
    return workspace.turn('stop', 'stop', call.signal, () => stopWorkspace(workspace, call))
  },

  'workspace.start': (call) => {
    const workspace = call.engine.workspaces.get(call.input.workspace)
    return workspace.turn('start', 'start', call.signal, () => startWorkspace(workspace, call))
  },

  'workspace.reset': (call) => {
    const { snapshot, saveAs } = call.input
    const workspace = call.engine.workspaces.get(call.input.workspace)
    return workspace.turn('reset', 'reset', call.signal, () =>
      resetWorkspace(workspace, { snapshot, saveAs: saveAs ?? null }, call),
    )
  },

  'workspace.diff': (call) => {
    const { engine, input, reply } = call
    return diffStates(engine.workspaces.get(input.workspace), input, whileRead(call), (chunk) =>
      wait(reply.data(chunk)),
    )
  },

  'workspace.export': (call) => {
    const { engine, input, reply } = call
    return exportState(engine.workspaces.get(input.workspace), input, whileRead(call), (chunk) =>
      wait(reply.data(chunk)),
    )
  },
} satisfies Partial<Handlers>

const update = (workspaces: Workspaces, workspace: Workspace, input: ParsedInputOf<'workspace.update'>): void => {
  const labels = { ...workspace.row.labels, ...input.labels }
  for (const key of input.clearLabels) delete labels[key]
  refuseManyLabels(workspace.services.config.limits.labelsPerWorkspace, Object.keys(labels).length)
  const expiresAt =
    input.ttlMs === undefined ? workspace.row.expiresAt : input.ttlMs === null ? null : Date.now() + input.ttlMs
  workspaces.update(workspace, { name: input.name ?? workspace.row.name, labels, expiresAt })
}

/** A stream that changes nothing ends with its reader. */
const whileRead = <Call extends { readonly signal: AbortSignal; readonly gone: AbortSignal }>(call: Call): Call => ({
  ...call,
  signal: AbortSignal.any([call.signal, call.gone]),
})

const wait = (sent: Promise<void> | null): void | Promise<void> => sent ?? undefined
