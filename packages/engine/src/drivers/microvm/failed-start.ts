import { join } from 'node:path'
import { vmmSpec, type VmmSpec } from '@pyro/protocol/guest'
import type { PrepareContext } from '../../driver/driver.ts'
import { readJsonFile } from '../../lib/json-file.ts'
import { tailOf } from '../monitored/monitor.ts'
import { LAST_WORDS_BYTES } from '../monitored/monitored-sandbox.ts'
import type { SandboxPaths } from '../monitored/sandbox-paths.ts'
import type { GuestKernel, GuestKernels } from './guest-kernel.ts'
import { agentGaveUp } from './last-words.ts'

type Doubtful = Pick<GuestKernels, 'doubt'>

/** What a VMM was told, in the folder of its sandbox. */
export const vmmFile = ({ folder }: SandboxPaths): string => join(folder, 'vmm.json')

/** As `Technology.startFailed`. */
export const discardCauses = async (
  causes: { readonly kernels: Doubtful; readonly templates: { discardOf(vmm: VmmSpec): Promise<boolean> } },
  paths: SandboxPaths,
): Promise<boolean> => {
  const isKernelDamaged = await causes.kernels.doubt()
  // An agent that says why it gave up came up well: it is the disk that is not what it should be.
  if (agentGaveUp(await tailOf(paths.log, LAST_WORDS_BYTES))) return isKernelDamaged
  const vmm = await readJsonFile(vmmFile(paths), vmmSpec)
  const hadTemplate = vmm !== null && (await causes.templates.discardOf(vmm))
  return hadTemplate || isKernelDamaged
}

/** Makes what machines of a kernel start from; once more when that failed with one that was damaged. */
export const makeWithKernel = async <Made>(
  kernels: Doubtful & Pick<GuestKernels, 'obtain'>,
  cx: PrepareContext,
  make: (kernel: GuestKernel) => Promise<Made>,
): Promise<Made> => {
  const kernel = await kernels.obtain(cx)
  try {
    return await make(kernel)
  } catch (error) {
    if (cx.signal.aborted || !(await kernels.doubt())) throw error
    return await make(await kernels.obtain(cx))
  }
}
