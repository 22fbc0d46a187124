import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { Failure } from '@pyro/protocol'
import type { Sandbox, SandboxRecord } from '../driver/driver.ts'
import { errorFields } from '../lib/log.ts'
import { endInspectors } from './inspector.ts'
import { recoverIntent } from './recovery.ts'
import { COPIED, REBOOTED } from './sandbox-failure.ts'
import { ADOPT_DEADLINE_MS, sandboxIdOf } from './sandbox-life.ts'
import { ownCall, type Services } from './services.ts'
import type { Workspace } from './workspace.ts'
import type { Workspaces } from './workspaces.ts'

const LIST_TIMEOUT_MS = 10_000
/** A `run` whose client does not come back: how long its workspace stays after the command has ended. */
const EPHEMERAL_KEPT_MS = 10 * 60_000

const hostBootId = (): string => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()

/**
 * Takes over what a former engine left. Returns at once: each workspace does it in its first turn, so that lists are answered
 * meanwhile and one stuck sandbox keeps nobody else waiting. The promise settles when all have.
 */
export const adoptAll = async (services: Services, workspaces: Workspaces): Promise<void> => {
  const { store } = services
  const loaded = workspaces.load()
  const rebooted = noteBoot(services)
  const copied = noteHome(services)
  const allGone = rebooted ? REBOOTED : copied ? COPIED : null
  const known = new Set<string>(loaded.map(({ id }) => id))
  const orphans = store.intents.all().filter(({ subject }) => !known.has(subject))
  services.releaser.scheduleAll()
  await Promise.all([
    ...loaded.map((workspace) => {
      workspace.adoption = adoptOne(services, workspaces, workspace, allGone)
      return workspace.adoption
    }),
    ...orphans.map((intent) => recoverOrphan(services, intent)),
  ])
}

/** Whether the host was restarted since an engine ran. A host without space can do without the note: the next engine makes it. */
const noteBoot = ({ store, log }: Services): boolean => {
  const bootId = hostBootId()
  const former = store.meta('hostBootId')
  if (former === bootId) return false
  try {
    store.setMeta('hostBootId', bootId)
  } catch (error) {
    log.error(errorFields(error), 'the boot of the host was not noted')
  }
  return former !== null
}

/**
 * Whether this home is a copy of another that is still there: then the sandboxes in its state are the other's, and nobody here may
 * as much as look at them. One that was moved keeps its own.
 */
const noteHome = ({ store, config, log }: Services): boolean => {
  const former = store.meta('home')
  if (former === config.home) return false
  const copied = former !== null && isAnotherHome(former, config.home)
  if (copied) log.warn({ of: former }, 'this home is a copy: the sandboxes of its state are left to the other')
  try {
    store.transaction(() => {
      if (copied) for (const { id } of store.sandboxes.all()) store.sandboxes.delete(id)
      store.setMeta('home', config.home)
    })
  } catch (error) {
    // Without the note the sandboxes could be taken for ours.
    if (copied) throw error
    log.error(errorFields(error), 'the place of the home was not noted')
  }
  return copied
}

const isAnotherHome = (former: string, home: string): boolean => {
  const [there, here] = [former, home].map((folder) => statSync(join(folder, 'state.db'), { throwIfNoEntry: false }))
  return there !== undefined && (there.dev !== here?.dev || there.ino !== here.ino)
}

const recoverOrphan = async (services: Services, intent: Parameters<typeof recoverIntent>[1]): Promise<void> => {
  try {
    await recoverIntent(services, intent, null)
  } catch (error) {
    services.log.error({ operation: intent.operation, subject: intent.subject, ...errorFields(error) }, 'not recovered')
  }
}

const adoptOne = async (
  services: Services,
  workspaces: Workspaces,
  workspace: Workspace,
  allGone: Failure | null,
): Promise<void> => {
  try {
    await workspace.ownTurn('the start of the engine', async () => {
      for (const intent of services.store.intents.all()) {
        if (intent.subject !== workspace.id) continue
        if ((await recoverIntent(services, intent, workspace)) === 'gone') {
          workspaces.forget(workspace)
          return
        }
      }
      await endInspectors(services, workspace.id)
      await adoptSandbox(services, workspace, allGone)
    })
  } catch (error) {
    workspace.log.error(errorFields(error), 'adoption failed')
    const message = error instanceof Error ? error.message : String(error)
    workspace.change({ phase: 'failed', failure: { code: 'internal', message, hint: 'pyro workspace start WS' } })
  } finally {
    workspace.adoption = null
  }
}

const adoptSandbox = async (services: Services, workspace: Workspace, allGone: Failure | null): Promise<void> => {
  const { store } = services
  const { row } = workspace
  if (row.phase !== 'running') {
    await settleStopped(workspace)
    return
  }
  const sandboxRow = store.sandboxes.get(sandboxIdOf(row.id, row.generation))
  if (sandboxRow === null || allGone !== null) return markDead(workspace, allGone ?? vanished)
  const record = sandboxRow.record as SandboxRecord
  let sandbox: Sandbox
  try {
    sandbox = await services.drivers
      .get(record.driver)
      .adopt(record, { signal: ownCall().signal, deadlineMs: ADOPT_DEADLINE_MS })
  } catch (error) {
    workspace.log.warn(errorFields(error), 'the sandbox was not adopted')
    const exit = await services.drivers.get(record.driver).reclaim(record)
    store.sandboxes.delete(sandboxRow.id)
    return markDead(workspace, { ...vanished, message: `the sandbox died (${exit.detail}); the disk is kept` })
  }
  workspace.attach(sandbox)
  await resumeCommands(services, workspace, sandbox)
}

const vanished: Failure = {
  code: 'sandbox.unreachable',
  message: 'the sandbox was gone when the engine started; the disk is kept',
  hint: 'pyro workspace start WS',
}

/** A stopped workspace may have been given up in the middle of something: nothing of it runs. */
const settleStopped = async (workspace: Workspace): Promise<void> => {
  const { row } = workspace
  if (row.phase !== 'stopped' && row.phase !== 'failed') {
    workspace.change({ phase: 'failed', failure: { ...vanished, message: `an operation was lost while ${row.phase}` } })
  }
  await workspace.commands.recordAllLost('the sandbox died')
}

const markDead = async (workspace: Workspace, failure: Failure): Promise<void> => {
  workspace.change({ phase: 'stopped', failure: { ...failure, hint: `pyro workspace start ${workspace.row.name}` } })
  await workspace.commands.recordAllLost(failure.message)
}

/** Commands that both sides know go on; those that only one side knows end. */
const resumeCommands = async (services: Services, workspace: Workspace, sandbox: Sandbox): Promise<void> => {
  const rows = workspace.commands.unended()
  const known = rows.length === 0 || !sandbox.agent.connected ? null : await knownCommands(workspace, sandbox)
  for (const row of rows) {
    // Written down, but the engine died before the agent heard of it: its caller asks again.
    if (known?.has(row.id) === false) services.store.commands.delete(row.id)
    else await workspace.commands.resume(row, sandbox)
  }
  void endStrangers(services, workspace, sandbox)
  if (workspace.row.ephemeral !== null && workspace.row.expiresAt === null) {
    workspace.change({ expiresAt: Date.now() + EPHEMERAL_KEPT_MS })
  }
}

/** Null when the agent does not say: then each command is looked for by itself. */
const knownCommands = async (workspace: Workspace, sandbox: Sandbox): Promise<ReadonlySet<string> | null> => {
  try {
    return new Set((await sandbox.agent.commands({ timeoutMs: LIST_TIMEOUT_MS })).map(({ id }) => id))
  } catch (error) {
    workspace.log.warn(errorFields(error), 'the commands of a sandbox are not known')
    return null
  }
}

/** Commands of the agent that no row speaks of: their start was taken back, or their end is written down. */
const endStrangers = async (services: Services, workspace: Workspace, sandbox: Sandbox): Promise<void> => {
  try {
    const known = await sandbox.agent.commands({ timeoutMs: LIST_TIMEOUT_MS })
    const strangers = known.filter(
      ({ id }) => workspace.commands.find(id) === null && services.store.commands.get(id)?.state !== 'running',
    )
    for (const { id, running } of strangers) {
      if (running) await sandbox.agent.signal(id, { signal: 'KILL', graceMs: 0 }, { timeoutMs: LIST_TIMEOUT_MS })
    }
    const ended = strangers.filter(({ running }) => !running)
    await Promise.all(ended.map(({ id, cursor }) => sandbox.agent.release(id, cursor)))
  } catch (error) {
    workspace.log.warn(errorFields(error), 'commands without an owner were not ended')
  }
}
