import { isPyroError } from '@pyro/protocol'
import { errorFields } from '../../lib/log.ts'
import { stopWorkspace } from '../../workspace/operations/stop.ts'
import { ownCall } from '../../workspace/services.ts'
import { diagnose } from '../doctor/doctor.ts'
import type { Engine } from '../engine.ts'
import type { Handlers } from '../handler.ts'

export const engineHandlers = {
  doctor: ({ engine, input }) => diagnose(engine, input),

  'engine.status': ({ engine }) =>
    Promise.resolve({
      running: true,
      pid: process.pid,
      version: engine.version,
      socket: engine.socket,
      home: engine.services.config.home,
      workspaces: engine.workspaces.count,
    }),

  'engine.shutdown': async ({ engine, input }) => {
    const stopped = input.workspaces ? await stopAll(engine) : 0
    const sandboxes = engine.workspaces.all().filter(({ sandbox }) => sandbox !== null).length
    engine.leave()
    return { sandboxes, stopped }
  },

  'request.cancel': ({ engine, input }) => Promise.resolve({ cancelled: engine.calls.cancel(input.requestId) }),
} satisfies Partial<Handlers>

/** How many were stopped; one that does not stop is left and logged. */
const stopAll = async (engine: Engine): Promise<number> => {
  const outcomes = await Promise.all(
    engine.workspaces.all().map(async (workspace) => {
      if (workspace.row.phase === 'stopped') return false
      const call = ownCall()
      try {
        await workspace.turn('stop', 'daemon stop', call.signal, () => stopWorkspace(workspace, call))
        return true
      } catch (error) {
        if (!isPyroError(error)) throw error
        workspace.log.warn(errorFields(error), 'not stopped with the engine')
        return false
      }
    }),
  )
  return outcomes.filter(Boolean).length
}
