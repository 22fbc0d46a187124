import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** The agent binary of this machine as the set-up builds it; a test without one must fail, not pass. */
export const agentPath = (): string => {
  const path = fileURLToPath(new URL(`../../engine/agent/linux-${process.arch}/pyro-agent`, import.meta.url))
  if (!existsSync(path)) throw new Error(`${path} is missing: run npm run setup`)
  return path
}
