import { join } from 'node:path'
import { vmmSpec, type VmmSpec } from '@pyro/protocol/guest'
import { readJsonFile } from '../../lib/json-file.ts'
import { tailOf } from '../monitored/monitor.ts'
import { LAST_WORDS_BYTES } from '../monitored/monitored-sandbox.ts'
import type { SandboxPaths } from '../monitored/sandbox-paths.ts'
import { agentGaveUp } from './last-words.ts'

/** What a VMM was told, in the folder of its sandbox. */
export const vmmFile = ({ folder }: SandboxPaths): string => join(folder, 'vmm.json')

/** As `Technology.startFailed`. */
export const discardTemplate = async (
  templates: { discardOf(vmm: VmmSpec): Promise<boolean> },
  paths: SandboxPaths,
): Promise<boolean> => {
  // An agent that says why it gave up came up well: it is the disk that is not what it should be.
  if (agentGaveUp(await tailOf(paths.log, LAST_WORDS_BYTES))) return false
  const vmm = await readJsonFile(vmmFile(paths), vmmSpec)
  return vmm !== null && templates.discardOf(vmm)
}
