import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PyroError } from '@pyro/protocol'
import { CONFIG_DISK_BYTES, type MachineConfig } from '@pyro/protocol/guest'
import { labelOf } from '../../disk/disk-image.ts'
import type { SandboxSpec } from '../../driver/driver.ts'
import type { Bundle } from '../monitored/technology.ts'

const MIB = 1024 * 1024
const ENTROPY_BYTES = 64
/** Gives its path. */
export const writeConfigDisk = async ({ paths, agentConfig }: Bundle, spec: SandboxSpec): Promise<string> => {
  const { filesystem, inspects } = spec
  if (filesystem === null)
    throw new PyroError('internal', `${spec.sandboxId} has no filesystem that its disk should hold`)
  const own = { uuid: filesystem, label: labelOf(spec.workspaceId) }
  const config: MachineConfig = {
    agent: agentConfig,
    entropy: randomBytes(ENTROPY_BYTES).toString('base64'),
    limits: { memoryBytes: spec.memoryMib * MIB, pidsMax: spec.pidsMax },
    root: inspects.length > 0 ? null : own,
    inspect: inspects.map(() => own),
  }
  const path = join(paths.folder, 'config.raw')
  const disk = Buffer.alloc(CONFIG_DISK_BYTES)
  disk.write(JSON.stringify(config))
  await writeFile(path, disk, { mode: 0o600 })
  return path
}
