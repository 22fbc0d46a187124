import { isPyroError, PyroError, type Failure } from '@pyro/protocol'
import type { Sandbox, SandboxExit } from '../driver/driver.ts'
import { nowText } from '../lib/wait.ts'
import { isUnwritten } from '../store/database.ts'
import type { WorkspaceRow } from '../store/workspaces.ts'

/** What the record says of a sandbox that ended although nobody stopped it. */
export const exitFailure = (row: Pick<WorkspaceRow, 'name' | 'memoryMib'>, exit: SandboxExit): Failure => {
  const start = `pyro workspace start ${row.name}`
  switch (exit.reason) {
    case 'memory':
      return {
        code: 'limit.exceeded',
        message: `the sandbox reached its memory limit of ${row.memoryMib} MiB and was killed; the disk is kept`,
        hint: `${start}; create a workspace with a larger --memory-mib for work that needs more`,
      }
    case 'pids':
      return {
        code: 'limit.exceeded',
        message: 'the sandbox reached its limit of processes and was killed; the disk is kept',
        hint: start,
      }
    case 'stopped':
    case 'crashed':
    case 'unknown':
      return {
        code: 'sandbox.unreachable',
        message: `the sandbox died (${exit.detail}); the disk is kept`,
        hint: start,
      }
  }
}

/** A link that broke is there again much sooner, also where everything is emulated. */
const SILENT_MS = 15_000

/** What the record says of a sandbox that lives and does not answer. It may do so again: nothing is ended. */
export const silentFailure = (
  row: Pick<WorkspaceRow, 'name' | 'phase'>,
  sandbox: { readonly agent: Pick<Sandbox['agent'], 'downSince' | 'other'> } | null,
): Failure | null => {
  const other = sandbox?.agent.other ?? null
  if (other !== null && row.phase === 'running')
    return { code: other.code, message: other.message, hint: other.hint?.replaceAll('WS', row.name) ?? null }
  const since = sandbox?.agent.downSince ?? null
  if (since === null || row.phase !== 'running' || Date.now() - since < SILENT_MS) return null
  return {
    code: 'sandbox.unreachable',
    message: `its agent has not answered since ${nowText(since)}; what is inside may be frozen, halted or starved`,
    hint: `pyro workspace reset ${row.name}, or stop and start; it goes on by itself if the agent answers again`,
  }
}

/** What the record says of a sandbox that a stop had to end by force. */
export const cutOffFailure = ({ name }: Pick<WorkspaceRow, 'name'>): Failure => ({
  code: 'sandbox.unreachable',
  message:
    'the sandbox did not answer the stop, or not in time, and was cut off: what it had not written to its disk is lost',
  hint: `pyro workspace start ${name} goes on with the disk as it is, pyro workspace reset ${name} goes back to a snapshot`,
})

/** What the record keeps of a start that failed; what it said before where the host did not take a write, or nobody waited any more. */
export const startFailureKept = (before: Failure | null, error: unknown, signal: AbortSignal): Failure | null => {
  if (signal.aborted || isUnwritten(error)) return before
  if (isPyroError(error)) return { code: error.code, message: error.message, hint: error.hint }
  const message = error instanceof Error ? error.message : String(error)
  return { code: 'internal', message: `start failed: ${message}; the disk is kept`, hint: 'pyro daemon logs' }
}

export const REBOOTED: Failure = {
  code: 'sandbox.unreachable',
  message: 'the host was restarted; the disk is kept',
  hint: 'pyro workspace start WS',
}

export const COPIED: Failure = {
  code: 'sandbox.unreachable',
  message: 'the home was copied, and its sandbox runs for the other; the disk is kept',
  hint: 'pyro workspace start WS',
}

/** Errors that say more than `workspace.start-failed` would. */
const SPEAKING = new Set([
  'disk.full',
  'limit.exceeded',
  'request.cancelled',
  'driver.unavailable',
  'host.missing-tool',
])

/** Says of the workspace why its sandbox did not come up. `kept` says what was changed. */
export const explainStart = async <T>(
  name: string,
  kept: string,
  work: () => Promise<T>,
  wayOut: { readonly hint: string | null } = { hint: null },
): Promise<T> => {
  try {
    return await work()
  } catch (error) {
    throw startFailure(name, error, kept, wayOut.hint)
  }
}

const startFailure = (name: string, error: unknown, kept: string, hint: string | null): unknown => {
  if (isUnwritten(error)) return error
  if (!isPyroError(error)) {
    return new PyroError('workspace.start-failed', `the sandbox of "${name}" did not start; ${kept}`, {
      hint: hint ?? 'pyro doctor, pyro daemon logs',
      cause: error,
    })
  }
  if (SPEAKING.has(error.code)) return error
  return new PyroError('workspace.start-failed', `the sandbox of "${name}" did not start: ${error.message}; ${kept}`, {
    hint: hint ?? error.hint ?? 'pyro doctor, pyro daemon logs',
    data: { ...error.data, reason: error.code },
    cause: error,
  })
}
