import type { Sandbox } from '../driver/driver.ts'
import type { Release } from '../store/releases.ts'
import type { Services } from './services.ts'

/** Everything that the steps of an operation may have made and that a failed undo may have left. */
export interface Leftovers {
  readonly workspaceId: string
  readonly driver: string
  readonly sandboxes: readonly string[]
  readonly volumes: readonly string[]
}

/**
 * In a transaction. Released in the background, now and by later engines: disks only when their sandboxes are gone. `sandbox` is the
 * handle of the one that this engine has started, if it came to that.
 */
export const leaveToReleaser = ({ releaser }: Services, left: Leftovers, sandbox: Sandbox | null): void => {
  if (sandbox !== null) releaser.hold(sandbox)
  const { workspaceId, driver, sandboxes, volumes } = left
  const things: Release[] = [
    ...sandboxes.map((sandbox) => ({ kind: 'sandbox' as const, sandbox })),
    ...volumes.map((volume) => ({ kind: 'volume' as const, driver, volume })),
  ]
  releaser.schedule(things.map((thing) => releaser.give(workspaceId, thing)))
}
