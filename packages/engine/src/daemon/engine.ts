import type { HomeIdentity } from '../store/home-identity.ts'
import type { RunningCommand } from '../workspace/commands/running-command.ts'
import type { Services } from '../workspace/services.ts'
import type { Workspaces } from '../workspace/workspaces.ts'
import type { Calls } from './calls.ts'

/** What handlers work on. */
export interface Engine {
  readonly version: string
  readonly socket: string
  readonly agentPath: string
  readonly home: HomeIdentity
  readonly services: Services
  readonly workspaces: Workspaces
  readonly calls: Calls
  /** Starts of commands under way, by request id: a repeated exec joins the first. */
  readonly starts: Map<string, Promise<RunningCommand>>
  /** Settles when everything that a former engine left is taken over. */
  readonly adopted: Promise<void>
  /** Ends the engine soon after the answer is out. */
  readonly leave: () => void
}
