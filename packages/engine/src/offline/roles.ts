import { batchesOf } from '@pyro/protocol'
import type { IdMapping } from '@pyro/protocol/guest'
import type { AgentClient, RoleRun } from '../agent/agent-client.ts'
import { ID_COUNT } from '../disk/disk-store.ts'
import { helperMark } from '../process/helper-processes.ts'
import { startStreamingProgram } from '../process/streaming-program.ts'

/** Where one-shot roles of the agent binary run. */
export interface Roles {
  /** How ids in a volume count where the role runs. */
  readonly mapping: IdMapping
  open(role: 'populate' | 'inspect', signal: AbortSignal | undefined): Promise<RoleRun>
}

export interface RoleHost {
  readonly agentPath: string
  /** First id of all trees on the host. */
  readonly idBase: number
}

/** Roles on this host, whose ids begin at a base that no user has. */
export const hostRoles = ({ agentPath, idBase }: RoleHost): Roles => ({
  mapping: { base: idBase, count: ID_COUNT },
  open: (role, signal) => Promise.resolve(startRole(agentPath, [role], { stdin: 'pipe', signal })),
})

/** All ids but the last, which means none (credentials(7)). */
const OWN_IDS: IdMapping = { base: 0, count: 0xffff_ffff }

/** Roles inside a machine with a kernel of its own. */
export const machineRoles = (agent: Pick<AgentClient, 'role'>): Roles => ({
  mapping: OWN_IDS,
  open: (role, signal) => agent.role(role, signal),
})

/** Starts a role as a process of this host that ends with the engine. */
export const startRole = (
  agentPath: string,
  args: readonly string[],
  { stdin, signal }: { readonly stdin: 'pipe' | number; readonly signal: AbortSignal | undefined },
): RoleRun => {
  const program = startStreamingProgram(agentPath, args, {
    stdin,
    env: helperMark(),
    ...(signal === undefined ? {} : { signal }),
  })
  return {
    stdin: program.stdin,
    output: batchesOf(program.stdout),
    ended: program.ended.then(({ exitCode, signal: killer, stderrTail }) => ({
      how: killer ?? `exit ${exitCode}`,
      stderrTail,
    })),
    kill: () => program.kill(),
  }
}
