import { randomBytes } from 'node:crypto'
import { filesystemOf } from '../disk/disk-image.ts'
import type { Volume } from '../disk/disk-store.ts'
import type { Sandbox, SandboxRecord, SandboxSpec } from '../driver/driver.ts'
import type { WorkspaceRow } from '../store/workspaces.ts'
import type { Call, Services } from './services.ts'

/** From the start of a sandbox to the agent's answer. */
/** What a sandbox may take to answer a new engine; one that lives and does not (frozen) is taken over all the same. */
export const ADOPT_DEADLINE_MS = 5_000
export const START_DEADLINE_MS = 60_000

export interface SandboxPlan {
  readonly generation: number
  readonly token: string
}

export const newToken = (): string => randomBytes(32).toString('hex')

export const sandboxIdOf = (workspaceId: string, generation: number): string => `${workspaceId}-g${generation}`

/** Starts a sandbox on a volume. Its name is committed before it is made; `endSandbox` takes everything back. */
export const startSandbox = async (
  services: Services,
  row: WorkspaceRow,
  plan: SandboxPlan,
  volume: Volume,
  { signal, onProgress }: Pick<Call, 'signal' | 'onProgress'>,
): Promise<Sandbox> => {
  const driver = services.drivers.get(row.driver)
  const { limits } = services.config
  await releaseFormer(services, row, volume)
  const spec: SandboxSpec = {
    sandboxId: sandboxIdOf(row.id, plan.generation),
    workspaceId: row.id,
    generation: plan.generation,
    volume,
    filesystem: driver.volumes === 'images' ? filesystemOf(row.environment.digest) : null,
    inspects: [],
    hostname: row.hostname,
    vcpus: row.vcpus,
    memoryMib: row.memoryMib,
    pidsMax: pidsFor(limits, row.memoryMib),
    token: plan.token,
  }
  const memoryMib = driver.hostMemoryMib(row.memoryMib)
  await services.admission.refuseTooLarge(memoryMib)
  await driver.prepare(spec, { signal, onProgress })
  using _memory = await services.admission.admit(memoryMib, signal)
  const record: SandboxRecord = { driver: driver.id, spec, details: {} }
  putSandbox(services, record, 'starting')
  const sandbox = await driver.start(spec, { signal, deadlineMs: START_DEADLINE_MS })
  putSandbox(services, sandbox.record, 'running')
  return sandbox
}

const pidsFor = (limits: Services['config']['limits'], memoryMib: number): number =>
  Math.min(
    limits.sandboxProcessesMost,
    Math.max(limits.sandboxProcessesLeast, memoryMib * limits.processesPerMemoryMib),
  )

/**
 * Ends a sandbox by force, by its handle or by its record when this engine has none, and forgets it. Idempotent; it is also the undo
 * of a start.
 */
export const endSandbox = async (
  services: Services,
  sandboxId: string | null,
  handle: Sandbox | null,
): Promise<void> => {
  if (sandboxId === null) return
  const row = services.store.sandboxes.get(sandboxId)
  if (row === null) return
  const record = row.record as SandboxRecord
  if (handle === null) await services.drivers.get(record.driver).reclaim(record)
  else await handle.stop()
  services.store.sandboxes.delete(sandboxId)
}

export const putSandbox = (services: Services, record: SandboxRecord, state: 'starting' | 'running'): void => {
  const { sandboxId, workspaceId, generation } = record.spec
  services.store.sandboxes.put({ id: sandboxId, workspaceId, generation, state, record })
}

/** Two sandboxes never write to one volume: what is left of a dead one goes first, or nothing starts. */
const releaseFormer = async (services: Services, row: WorkspaceRow, volume: Volume): Promise<void> => {
  await services.releaser.settled(row.id)
  for (const former of services.store.sandboxes.of(row.id)) {
    const record = former.record as SandboxRecord
    if (record.spec.volume.id !== volume.id) continue
    const exit = await services.drivers.get(record.driver).reclaim(record)
    services.log.info({ sandbox: former.id, ...exit }, 'a former sandbox was released')
    services.store.sandboxes.delete(former.id)
  }
}
