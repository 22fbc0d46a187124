import { BASELINE, CURRENT, isPyroError, PyroError, type DiffResult, type ParsedInputOf } from '@pyro/protocol'
import { diffWorkspace } from '../../diff/diff.ts'
import { exportWorkspace, type ExportSummary } from '../../diff/export.ts'
import type { DiskState, FrozenContext, ImageReader } from '../../diff/frozen.ts'
import { filesystemOf, labelOf } from '../../disk/disk-image.ts'
import type { Sandbox } from '../../driver/driver.ts'
import { stillGuest, type StillGuest } from '../../driver/still-copy.ts'
import { findSnapshot } from '../../snapshot/snapshots.ts'
import type { SnapshotRow } from '../../store/snapshots.ts'
import { inspectorOf } from '../inspector.ts'
import { volumeId, type Call } from '../services.ts'
import type { Workspace } from '../workspace.ts'

type Sink = (chunk: Uint8Array) => void | Promise<void>

/** Compares two states. Takes no turn: nothing changes, and the workspace goes on meanwhile. */
export const diffStates = (
  workspace: Workspace,
  input: Omit<ParsedInputOf<'workspace.diff'>, 'workspace'>,
  call: Call,
  onPatch: Sink,
): Promise<DiffResult> =>
  looking(workspace, 'diff', call, [input.from, input.to], async ([from, to], signal) => {
    const { services } = workspace
    const baseline = findSnapshot(ownerOf(workspace), BASELINE)
    using _pin = services.pins.pin(baseline.volume)
    const context = { ...frozenContext(workspace), limits: services.config.limits }
    return diffWorkspace(
      context,
      {
        workspaceId: workspace.id,
        from,
        to,
        baseline: volumeId(baseline.volume),
        root: input.root,
        paths: input.paths,
        ignored: input.ignored,
        patch: input.patch,
        plainFolder: workspace.row.seed.mode === 'path',
        note: noteOf(workspace, input),
      },
      { signal, onPatch },
    )
  })

export const exportState = (
  workspace: Workspace,
  input: Omit<ParsedInputOf<'workspace.export'>, 'workspace'>,
  call: Call,
  onData: Sink,
): Promise<ExportSummary> =>
  looking(workspace, 'export', call, [input.snapshot], async ([state], signal) => {
    return exportWorkspace(
      frozenContext(workspace),
      { workspaceId: workspace.id, state, path: input.path },
      { signal, onData },
    )
  })

/** Pins the volumes of the named states while `work` reads them. */
const looking = async <const Names extends readonly string[], T>(
  workspace: Workspace,
  what: string,
  call: Call,
  names: Names,
  work: (states: { readonly [Index in keyof Names]: DiskState }, signal: AbortSignal) => Promise<T>,
): Promise<T> => {
  await workspace.settled('look', what, call.signal)
  const states = names.map((name) => stateOf(workspace, name))
  using stack = new DisposableStack()
  for (const state of states) stack.use(workspace.services.pins.pin(state.volume))
  workspace.looks++
  stack.defer(() => workspace.looks--)
  for (const state of states) await refuseMissing(workspace, state)
  const signal = AbortSignal.any([call.signal, workspace.looking])
  return await work(states as { [Index in keyof Names]: DiskState }, signal)
}

const stateOf = (workspace: Workspace, name: string): DiskState => {
  if (name === CURRENT) {
    const { sandbox } = workspace
    const agent = sandbox === null ? null : stillWhileThere(workspace, sandbox)
    return { name, volume: volumeId(workspace.row.volume), writable: true, agent }
  }
  const snapshot = findSnapshot(ownerOf(workspace), name)
  return { name, volume: volumeId(snapshot.volume), writable: false, agent: null }
}

const frozenContext = (workspace: Workspace): FrozenContext => ({
  disks: workspace.driver.disks,
  images: workspace.driver.volumes === 'images' ? imageReader(workspace) : null,
  inspect: inspectorOf(workspace),
})

const imageReader = ({ row, services, log }: Workspace): ImageReader => ({
  tools: services.offline,
  identity: { uuid: filesystemOf(row.environment.digest), label: labelOf(row.id) },
  onUnreadable: (why) => log.info({ why }, 'a machine has to look at the disk'),
})

/** A sandbox that a stop or reset ends meanwhile holds nothing back any more: its disk is as it left it. */
const stillWhileThere = (workspace: Workspace, sandbox: Sandbox): StillGuest => {
  const whileThere = async <T>(work: Promise<T>, otherwise: T): Promise<T> => {
    try {
      return await work
    } catch (error) {
      const isGone = isPyroError(error) && error.code === 'sandbox.unreachable' && workspace.sandbox !== sandbox
      if (!isGone) throw error
      return otherwise
    }
  }
  const { flush, disk } = stillGuest(workspace.driver, sandbox.agent)
  return {
    flush: (options) => whileThere(flush(options), undefined),
    disk: disk && {
      freeze: (options) => whileThere(disk.freeze(options), undefined),
      thaw: (options) => whileThere(disk.thaw(options), true),
    },
  }
}

const refuseMissing = async (workspace: Workspace, state: DiskState): Promise<void> => {
  if ((await workspace.driver.disks.find(state.volume)) !== null) return
  throw new PyroError('workspace.lost', `the disk of "${workspace.row.name}" at ${state.name} is gone`, {
    hint: `pyro workspace reset ${workspace.row.name}`,
  })
}

const ownerOf = (workspace: Workspace): { name: string; snapshots: SnapshotRow[] } => ({
  name: workspace.row.name,
  snapshots: workspace.services.store.snapshots.of(workspace.id),
})

/** A diff from the baseline after a reset to a later snapshot shows more than what happened since the reset. */
const noteOf = (workspace: Workspace, input: { readonly from: string; readonly to: string }): string | null => {
  const { lastResetSnapshot } = workspace.row
  if (input.from !== BASELINE || input.to !== CURRENT) return null
  if (lastResetSnapshot === null || lastResetSnapshot === BASELINE) return null
  return `the workspace was reset to "${lastResetSnapshot}", which is newer than the baseline: the diff spans both`
}
