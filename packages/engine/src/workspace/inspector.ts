import { randomBytes } from 'node:crypto'
import { availableParallelism } from 'node:os'
import type { Volume } from '../disk/disk-store.ts'
import { filesystemOf } from '../disk/disk-image.ts'
import type { Inspect } from '../diff/frozen.ts'
import type { Sandbox, SandboxRecord, SandboxSpec } from '../driver/driver.ts'
import { errorFields } from '../lib/log.ts'
import { OfflineAgent } from '../offline/offline-agent.ts'
import { machineRoles } from '../offline/roles.ts'
import { endSandbox, newToken, putSandbox, START_DEADLINE_MS } from './sandbox-life.ts'
import type { Services } from './services.ts'
import type { Workspace } from './workspace.ts'

/** Whatever the size of the disks: the walk holds little of them. */
const MEMORY_MIB = 512
const PIDS = 256
/** One walks, and one talks. */
const VCPUS = Math.min(2, availableParallelism())

/** No two engines give the same. */
const newInspectorId = (workspaceId: string): string => `${workspaceId}-i${randomBytes(4).toString('hex')}`
export const isInspector = (sandboxId: string): boolean => /-i[0-9a-f]{8}$/.test(sandboxId)

/** Trees are looked at on the host, in a bare sandbox of the role itself; images by a machine that runs nothing of theirs. */
export const inspectorOf = (workspace: Workspace): Inspect => {
  const { services, driver } = workspace
  if (driver.volumes === 'trees')
    return (volumes, _signal, action) =>
      action(
        services.offline,
        volumes.map(({ path }) => path),
      )
  return async (volumes, signal, action) => {
    const call = signal ?? new AbortController().signal
    const spec = inspectorSpec(workspace, volumes)
    await driver.prepare(spec, { signal: call })
    await using undo = new AsyncDisposableStack()
    const record: SandboxRecord = { driver: driver.id, spec, details: {} }
    putSandbox(services, record, 'starting')
    let sandbox: Sandbox | null = null
    undo.defer(() => endSandbox(services, spec.sandboxId, sandbox))
    {
      using _memory = await services.admission.admit(driver.hostMemoryMib(MEMORY_MIB), call)
      sandbox = await driver.start(spec, { signal: call, deadlineMs: START_DEADLINE_MS })
    }
    const tools = new OfflineAgent(machineRoles(sandbox.agent))
    return await action(
      tools,
      volumes.map((_, at) => `/disks/${at}`),
    )
  }
}

const inspectorSpec = ({ row }: Workspace, volumes: readonly Volume[]): SandboxSpec => {
  const [first] = volumes
  if (first === undefined) throw new Error('an inspector of nothing')
  return {
    sandboxId: newInspectorId(row.id),
    workspaceId: row.id,
    generation: 0,
    volume: first,
    filesystem: filesystemOf(row.environment.digest),
    inspects: volumes,
    hostname: 'inspector',
    vcpus: VCPUS,
    memoryMib: MEMORY_MIB,
    pidsMax: PIDS,
    token: newToken(),
  }
}

/** What a killed engine left of a workspace's inspectors. Nothing stands in the way of the workspace when it fails. */
export const endInspectors = async (services: Services, workspaceId: string): Promise<void> => {
  for (const row of services.store.sandboxes.all()) {
    if (row.workspaceId !== workspaceId || !isInspector(row.id)) continue
    try {
      await endSandbox(services, row.id, null)
    } catch (error) {
      services.log.error({ sandbox: row.id, ...errorFields(error) }, 'an inspector was not ended')
    }
  }
}
