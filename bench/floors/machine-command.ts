import type { StartCommand } from '@pyro/protocol/guest'
import type { AgentClient } from '../../packages/engine/src/agent/agent-client.ts'
import { HOLD_MS } from '../../packages/engine/src/workspace/operations/exec.ts'

const PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** Runs a command in a machine by its agent; one that fails is an error. */
export const runIn = async (
  agent: AgentClient,
  id: string,
  what: Pick<StartCommand, 'argv' | 'shell'>,
): Promise<void> => {
  const rest = { cwd: '/', user: null, env: [PATH], timeoutMs: null, stdin: false, holdMs: HOLD_MS }
  const output = await agent.start(id, { ...what, ...rest })
  const said: Buffer[] = []
  for await (const { data } of output) said.push(data)
  const { exitCode } = await output.exit
  if (exitCode !== 0)
    throw new Error(`${JSON.stringify(what)} ended with ${exitCode}: ${Buffer.concat(said).toString()}`)
}
