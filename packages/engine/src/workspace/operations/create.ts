import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { BASELINE, newWorkspaceId, type ParsedInputOf, type ResultOf } from '@pyro/protocol'
import type { WorkspaceIdentity } from '@pyro/protocol/guest'
import { imprintDisk, labelOf } from '../../disk/disk-image.ts'
import { DISK_FILE, type Volume } from '../../disk/disk-store.ts'
import type { Driver, Sandbox } from '../../driver/driver.ts'
import type { EnvironmentLease } from '../../environment/environments.ts'
import { flushVolume, stillCopy, stillGuest } from '../../driver/still-copy.ts'
import { runSteps, type Step, type StepList } from '../../lib/steps.ts'
import { OfflineAgent } from '../../offline/offline-agent.ts'
import { machineRoles } from '../../offline/roles.ts'
import type { WorkspaceRow } from '../../store/workspaces.ts'
import type { ChosenDriver } from '../driver-choice.ts'
import { leaveToReleaser, type Leftovers } from '../leftovers.ts'
import { hostnameOf } from '../naming.ts'
import { explainStart } from '../sandbox-failure.ts'
import { endSandbox, newToken, sandboxIdOf, startSandbox } from '../sandbox-life.ts'
import { volumeId, type Call, type Services } from '../services.ts'
import type { Workspace } from '../workspace.ts'
import { snapshotVolume } from './snapshot.ts'

const MIB = 1024 * 1024
const FIRST_GENERATION = 1
const NOTHING_LEFT = 'nothing was left behind'

export type CreateInput = ParsedInputOf<'workspace.create'>

export interface CreatePlan {
  /** The row as it is while the workspace is made. */
  readonly row: WorkspaceRow
  readonly baseline: string
  readonly token: string
  readonly generation: number
}

interface CreateContext {
  readonly services: Services
  /** Null while a later engine undoes. */
  readonly live: { readonly workspace: Workspace; readonly seed: Readable | null; readonly call: Call } | null
  volume: Volume | null
  sandbox: Sandbox | null
  seeded: { readonly files: number; readonly bytes: number }
}

type CreateStep = Step<CreatePlan, CreateContext>

const record: CreateStep = {
  name: 'record',
  do(plan, cx) {
    cx.services.store.workspaces.insert(plan.row)
    return Promise.resolve()
  },
  undo(plan, cx) {
    cx.services.store.workspaces.delete(plan.row.id)
    return Promise.resolve()
  },
}

const clone: CreateStep = {
  name: 'clone',
  async do(plan, cx) {
    const driver = cx.services.drivers.get(plan.row.driver)
    const { disks } = driver
    const options = { limitBytes: limitOf(driver, plan.row.diskMib * MIB), group: plan.row.id }
    cx.volume = await disks.clone(volumeId(plan.row.environment.volume), volumeId(plan.row.volume), options)
  },
  async undo(plan, cx) {
    await cx.services.drivers.get(plan.row.driver).disks.remove(volumeId(plan.row.volume))
  },
}

/** An image is no larger than its disk; the blocks of one that is overwritten in parts may be more, and no fault of the guest. */
export const limitOf = ({ volumes }: Pick<Driver, 'volumes'>, bytes: number): number | null =>
  volumes === 'images' ? null : bytes

const identityOf = ({ hostname, machineId }: WorkspaceRow): WorkspaceIdentity => ({ hostname, machineId })

/** Identity and seed, on the host before there is a sandbox; of the disk of a machine that still is as it was made, the identity alone. */
const populate: CreateStep = {
  name: 'populate',
  async do({ row }, cx) {
    if (cx.live === null || cx.volume === null) return
    const { services, volume } = cx
    const { call, seed } = cx.live
    if (services.drivers.get(row.driver).volumes === 'trees') {
      cx.seeded = await populated(services.offline, { path: volume.path, identity: identityOf(row), seed }, cx, call)
      return
    }
    const disk = { file: join(volume.path, DISK_FILE), label: labelOf(row.id), identity: identityOf(row) }
    await imprintDisk(services.images, disk, call.signal)
  },
}

/** Where only the sandbox's own kernel writes to its disk. */
const seedInside: CreateStep = {
  name: 'seed',
  async do(_plan, cx) {
    if (cx.live === null || cx.sandbox === null) return
    const { call, seed } = cx.live
    const tools = new OfflineAgent(machineRoles(cx.sandbox.agent))
    cx.seeded = await populated(tools, { path: '/', identity: null, seed }, cx, call)
  },
}

const populated = (
  tools: OfflineAgent,
  what: { readonly path: string; readonly identity: WorkspaceIdentity | null; readonly seed: Readable | null },
  { services }: CreateContext,
  call: Call,
): Promise<{ files: number; bytes: number }> => {
  const { limits } = services.config
  return tools.populate(
    {
      volume: what.path,
      identity: what.identity,
      seed: what.seed,
      limits: { entries: limits.archiveEntries, bytes: limits.archiveBytes, pathBytes: limits.archivePathBytes },
    },
    { signal: call.signal, onProgress: ({ files, bytes }) => reportSeed(call, files, bytes) },
  )
}

const freezeBaseline: CreateStep = {
  name: 'freeze-baseline',
  async do(plan, cx) {
    if (cx.live === null) return
    const driver = cx.services.drivers.get(plan.row.driver)
    const agent = cx.sandbox === null ? null : stillGuest(driver, cx.sandbox.agent)
    const request = { from: volumeId(plan.row.volume), to: volumeId(plan.baseline), group: plan.row.id }
    const context = { agent, signal: cx.live.call.signal }
    if (agent !== null) await flushVolume(driver.disks, request.from, context)
    await stillCopy(driver.disks, request, context)
  },
  async undo(plan, cx) {
    await cx.services.drivers.get(plan.row.driver).disks.remove(volumeId(plan.baseline))
  },
}

const beginSandbox: CreateStep = {
  name: 'start-sandbox',
  async do(plan, cx) {
    if (cx.live === null || cx.volume === null) return
    const { volume } = cx
    const { call } = cx.live
    await explainStart(plan.row.name, NOTHING_LEFT, async () => {
      cx.sandbox = await startSandbox(cx.services, plan.row, plan, volume, call)
    })
  },
  async undo(plan, cx) {
    await endSandbox(cx.services, sandboxIdOf(plan.row.id, plan.generation), cx.sandbox)
  },
}

export const CREATE_STEPS: StepList<CreatePlan, CreateContext> = {
  operation: 'workspace.create',
  recovery: 'undo',
  steps: [record, clone, populate, freezeBaseline, beginSandbox],
}

const CREATE_AND_SEED_INSIDE_STEPS: typeof CREATE_STEPS = {
  ...CREATE_STEPS,
  steps: [record, clone, populate, beginSandbox, seedInside, freezeBaseline],
}

/** The order of the steps on this driver. */
export const createSteps = ({ volumes }: Pick<Driver, 'volumes'>, { row }: CreatePlan): typeof CREATE_STEPS =>
  volumes === 'trees' || row.seed.mode === 'none' ? CREATE_STEPS : CREATE_AND_SEED_INSIDE_STEPS

export const createLeftovers = ({ row, baseline, generation }: CreatePlan): Leftovers => ({
  workspaceId: row.id,
  driver: row.driver,
  sandboxes: [sandboxIdOf(row.id, generation)],
  volumes: [row.volume, baseline],
})

/** The row of a new workspace. */
export const newRow = (
  input: CreateInput,
  name: string,
  { driver, emulated }: ChosenDriver,
  environment: EnvironmentLease,
): WorkspaceRow => {
  const id = newWorkspaceId()
  const now = Date.now()
  return {
    id,
    name,
    phase: 'creating',
    generation: FIRST_GENERATION,
    activityAt: now,
    commandSequence: 0,
    labels: input.labels,
    environment: {
      name: environment.name,
      digest: environment.digest,
      volume: environment.volume,
      env: environment.env,
      user: environment.user,
      workingDir: environment.workingDir,
    },
    driver: driver.id,
    isolation: driver.isolation,
    emulated,
    vcpus: input.vcpus,
    memoryMib: input.memoryMib,
    diskMib: input.diskMib,
    diskEnforced: driver.volumes === 'images' || driver.disks.enforcesLimit,
    env: input.env,
    seed: {
      mode: input.seed?.mode ?? 'none',
      source: input.seed?.source ?? null,
      files: 0,
      bytes: 0,
      modified: input.seed?.modified ?? null,
      untracked: input.seed?.untracked ?? null,
      ignored: input.seed?.ignored ?? null,
    },
    machineId: randomBytes(16).toString('hex'),
    hostname: hostnameOf(name, id),
    volume: `${id}.g${FIRST_GENERATION}`,
    clonedFrom: snapshotVolume(id, 0),
    nextGeneration: FIRST_GENERATION + 1,
    nextSerial: 1,
    createdAt: now,
    expiresAt: input.ttlMs === undefined ? null : now + input.ttlMs,
    resetCount: 0,
    lastResetAt: null,
    lastResetSnapshot: null,
    failure: null,
    ephemeral: null,
  }
}

/** In the first turn of the workspace. On failure nothing of it exists any more. */
export const createWorkspace = async (
  workspace: Workspace,
  seed: Readable | null,
  call: Call,
  startedAt: number,
): Promise<ResultOf<'workspace.create'>> => {
  const { services } = workspace
  const { store } = services
  const { row } = workspace
  const plan: CreatePlan = { row, baseline: row.clonedFrom, token: newToken(), generation: FIRST_GENERATION }
  const context: CreateContext = {
    services,
    live: { workspace, seed, call },
    volume: null,
    sandbox: null,
    seeded: { files: 0, bytes: 0 },
  }
  return runSteps({
    list: createSteps(workspace.driver, plan),
    subject: row.id,
    plan,
    context,
    requestId: call.requestId,
    signal: call.signal,
    intents: store.intents,
    fault: services.fault,
    log: workspace.log,
    undone: (_error, outcome) => {
      if (outcome === 'clean') return
      store.workspaces.delete(row.id)
      leaveToReleaser(services, createLeftovers(plan), context.sandbox)
    },
    commit: () => {
      const createdAt = Date.now()
      store.snapshots.put({
        workspaceId: row.id,
        name: BASELINE,
        kind: 'baseline',
        volume: plan.baseline,
        createdAt,
      })
      workspace.change({ phase: 'running', activityAt: createdAt, seed: { ...row.seed, ...context.seeded } })
      const result = {
        ...workspace.record(),
        created: true,
        durationMs: Math.round(performance.now() - startedAt),
      }
      if (call.requestId !== null) store.requests.put(call.requestId, CREATE_STEPS.operation, { result })
      if (context.sandbox !== null) workspace.attach(context.sandbox)
      return result
    },
  })
}

const reportSeed = (call: Call, files: number, bytes: number): void =>
  call.onProgress?.({ step: 'seeding /workspace', done: bytes, total: null, unit: 'bytes', detail: `${files} files` })
