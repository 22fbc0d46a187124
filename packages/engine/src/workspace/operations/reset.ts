import { PyroError, type ResetResult, type ResultOf } from '@pyro/protocol'
import type { Volume } from '../../disk/disk-store.ts'
import type { Sandbox } from '../../driver/driver.ts'
import { runSteps, type StepList } from '../../lib/steps.ts'
import { flushVolume, stillCopy } from '../../driver/still-copy.ts'
import { admitSnapshot, findSnapshot } from '../../snapshot/snapshots.ts'
import type { ReleaseRow } from '../../store/releases.ts'
import type { SnapshotRow } from '../../store/snapshots.ts'
import type { WorkspaceRow } from '../../store/workspaces.ts'
import { commandText } from '../commands/command-result.ts'
import { leaveToReleaser, type Leftovers } from '../leftovers.ts'
import { limitOf } from './create.ts'
import { isInspector } from '../inspector.ts'
import { explainStart } from '../sandbox-failure.ts'
import { endSandbox, newToken, sandboxIdOf, startSandbox } from '../sandbox-life.ts'
import { volumeId, type Call, type Services } from '../services.ts'
import type { Workspace } from '../workspace.ts'
import { copyContext, giveVolume, namedSnapshot, snapshotVolume } from './snapshot.ts'
import { ownVolume } from './start.ts'

const MIB = 1024 * 1024

export interface ResetPlan {
  readonly workspaceId: string
  readonly driver: string
  readonly phaseBefore: WorkspaceRow['phase']
  readonly generation: number
  readonly token: string
  readonly snapshotVolume: string
  readonly volume: string
  readonly limitBytes: number
  /** The snapshot of the present state that was asked for, and where it comes from. */
  readonly save: { readonly from: string; readonly to: string } | null
}

interface ResetContext {
  readonly services: Services
  readonly live: { readonly workspace: Workspace; readonly call: Call } | null
  volume: Volume | null
  sandbox: Sandbox | null
}

export const RESET_STEPS: StepList<ResetPlan, ResetContext> = {
  operation: 'workspace.reset',
  recovery: 'undo',
  steps: [
    {
      name: 'save',
      async do(plan, cx) {
        if (plan.save === null) return
        const { disks } = cx.services.drivers.get(plan.driver)
        const [from, to] = [volumeId(plan.save.from), volumeId(plan.save.to)]
        await flushVolume(disks, from, copyContext(cx.live))
        await stillCopy(disks, { from, to, group: plan.workspaceId }, copyContext(cx.live))
      },
      async undo(plan, cx) {
        if (plan.save === null) return
        await cx.services.drivers.get(plan.driver).disks.remove(volumeId(plan.save.to))
      },
    },
    {
      name: 'clone',
      async do(plan, cx) {
        const driver = cx.services.drivers.get(plan.driver)
        const { disks } = driver
        const options = { limitBytes: limitOf(driver, plan.limitBytes), group: plan.workspaceId }
        cx.volume = await disks.clone(volumeId(plan.snapshotVolume), volumeId(plan.volume), options)
      },
      async undo(plan, cx) {
        await cx.services.drivers.get(plan.driver).disks.remove(volumeId(plan.volume))
      },
    },
    {
      name: 'start-sandbox',
      async do(plan, cx) {
        if (cx.live === null || cx.volume === null) return
        const { workspace, call } = cx.live
        const { volume } = cx
        cx.sandbox = await explainStart(workspace.row.name, asBefore(plan), () =>
          startSandbox(cx.services, workspace.row, plan, volume, call),
        )
      },
      async undo(plan, cx) {
        await endSandbox(cx.services, sandboxIdOf(plan.workspaceId, plan.generation), cx.sandbox)
      },
    },
  ],
}

export const resetLeftovers = ({ workspaceId, driver, generation, volume, save }: ResetPlan): Leftovers => ({
  workspaceId,
  driver,
  sandboxes: [sandboxIdOf(workspaceId, generation)],
  volumes: save === null ? [volume] : [volume, save.to],
})

export type ResetRequest = { readonly snapshot: string; readonly saveAs: string | null }

/** In a turn. Until the commit the old sandbox is untouched and carries the workspace; after it nothing is asked of it. */
export const resetWorkspace = async (workspace: Workspace, request: ResetRequest, call: Call): Promise<ResetResult> => {
  const { services } = workspace
  const { store, config } = services
  const startedAt = performance.now()
  const before = workspace.row
  const owner = { name: before.name, snapshots: store.snapshots.of(before.id) }
  const target = findSnapshot(owner, request.snapshot)
  if (request.saveAs !== null) {
    admitSnapshot(owner, { name: request.saveAs, replace: false }, config.limits.snapshotsPerWorkspace)
    await ownVolume(workspace)
  }
  await refuseLost(workspace, target)
  const plan = planReset(before, target, request)
  const context: ResetContext = { services, live: { workspace, call }, volume: null, sandbox: null }
  const outcome = await runSteps({
    list: RESET_STEPS,
    subject: before.id,
    plan,
    context,
    requestId: call.requestId,
    signal: call.signal,
    intents: store.intents,
    fault: services.fault,
    log: workspace.log,
    begin: () =>
      workspace.change({
        phase: 'resetting',
        nextGeneration: plan.generation + 1,
        nextSerial: before.nextSerial + (plan.save === null ? 0 : 1),
      }),
    commit: () => swap(workspace, { plan, before, target, request, context, call, startedAt }),
    undone: (_error, outcome) => {
      workspace.change({ phase: before.phase, failure: before.failure })
      if (outcome === 'left') leaveToReleaser(services, resetLeftovers(plan), context.sandbox)
    },
  })
  // A command that has started on the new sandbox meanwhile is none of these.
  await workspace.commands.interruptAll({ by: 'reset', limit: null }, plan.generation)
  services.releaser.schedule(outcome.given)
  return outcome.result
}

const asBefore = (plan: ResetPlan): string => `it is ${plan.phaseBefore} as before`

const planReset = (before: WorkspaceRow, target: SnapshotRow, request: ResetRequest): ResetPlan => ({
  workspaceId: before.id,
  driver: before.driver,
  phaseBefore: before.phase,
  generation: before.nextGeneration,
  token: newToken(),
  snapshotVolume: target.volume,
  volume: `${before.id}.g${before.nextGeneration}`,
  limitBytes: before.diskMib * MIB,
  save: request.saveAs === null ? null : { from: before.volume, to: snapshotVolume(before.id, before.nextSerial) },
})

interface Swap {
  readonly result: ResultOf<'workspace.reset'>
  readonly given: readonly ReleaseRow[]
}

interface SwapInput {
  readonly plan: ResetPlan
  readonly before: WorkspaceRow
  readonly target: SnapshotRow
  readonly request: ResetRequest
  readonly context: ResetContext
  readonly call: Call
  readonly startedAt: number
}

/** The transaction that moves the workspace to its new sandbox. */
const swap = (workspace: Workspace, input: SwapInput): Swap => {
  const { plan, before, target, request, context, call } = input
  const { store, releaser } = workspace.services
  const now = Date.now()
  const running = workspace.commands.running()
  const cleared = {
    commands: store.commands.count(before.id),
    runningCommands: running.map(({ row }) => ({ commandId: row.id, command: commandText(row.command) })),
    changedPaths: null,
  }
  store.commands.clear(before.id, now)
  if (plan.save !== null && request.saveAs !== null) {
    store.snapshots.put(namedSnapshot(before.id, request.saveAs, plan.save.to))
  }
  const given: ReleaseRow[] = []
  for (const row of store.sandboxes.all()) {
    if (row.workspaceId !== before.id || row.generation === plan.generation || isInspector(row.id)) continue
    store.sandboxes.put({ ...row, state: 'releasing' })
    given.push(releaser.give(before.id, { kind: 'sandbox', sandbox: row.id }))
  }
  given.push(giveVolume(workspace, before.volume), releaser.give(before.id, { kind: 'command-logs' }))
  workspace.change({
    phase: 'running',
    generation: plan.generation,
    volume: plan.volume,
    clonedFrom: target.volume,
    commandSequence: 0,
    activityAt: now,
    resetCount: before.resetCount + 1,
    lastResetAt: now,
    lastResetSnapshot: target.name,
    failure: null,
  })
  const result: ResetResult = {
    workspaceId: before.id,
    name: workspace.row.name,
    snapshot: target.name,
    generation: plan.generation,
    durationMs: Math.round(performance.now() - input.startedAt),
    savedAs: request.saveAs,
    started: before.phase !== 'running',
    cleared,
  }
  if (call.requestId !== null) store.requests.put(call.requestId, RESET_STEPS.operation, { result })
  const old = workspace.detach()
  if (old !== null) releaser.hold(old)
  if (context.sandbox !== null) workspace.attach(context.sandbox)
  return { result, given }
}

const refuseLost = async (workspace: Workspace, target: SnapshotRow): Promise<void> => {
  if ((await workspace.driver.disks.find(volumeId(target.volume))) !== null) return
  throw new PyroError(
    'workspace.lost',
    `the disk of snapshot "${target.name}" of "${workspace.row.name}" is gone; nothing was changed`,
    { hint: `pyro workspace snapshot list ${workspace.row.name}` },
  )
}
