import { spawn } from 'node:child_process'
import { watch, type FSWatcher } from 'node:fs'
import { open, readFile, writeFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { PyroError } from '@pyro/protocol'
import {
  monitorExit,
  monitorStatus,
  type MonitorExit,
  type MonitorSpec,
  type MonitorStatus,
} from '@pyro/protocol/guest'
import type { z } from 'zod'
import { abortable, settleLater, sleep } from '../../lib/wait.ts'
import { completePath } from '../../process/find-program.ts'
import { errnoOf, isAlive, signalProcess, type ProcessIdentity } from '../../process/identity.ts'
import { readArgv, readProcessTable, type HostProcess } from '../../process/process-table.ts'
import type { SandboxTrace } from '../../driver/driver.ts'
import type { SandboxPaths } from './sandbox-paths.ts'
import { valueOf } from './sandbox-processes.ts'

export type RunningStatus = Extract<MonitorStatus, { state: 'running' }>

/** A monitor while it is our child. */
export interface StartedMonitor {
  /** Settles when it is gone. */
  readonly ended: Promise<void>
}

/** Starts the monitor in a session of its own; it outlives this process. */
export async function startMonitor(
  agentBinary: string,
  paths: SandboxPaths,
  spec: MonitorSpec,
): Promise<StartedMonitor> {
  await writeFile(paths.monitorSpec, JSON.stringify(spec), { mode: 0o600 })
  const child = spawn(agentBinary, ['monitor', paths.monitorSpec], {
    cwd: '/',
    detached: true,
    stdio: 'ignore',
    // All that a runtime gets to see of our environment.
    env: { PATH: completePath(process.env['PATH']) },
  })
  const ended = settleLater<void>()
  child.once('exit', () => ended.resolve())
  const { promise, resolve, reject } = settleLater<StartedMonitor>()
  child.once('error', (error) => {
    reject(new PyroError('workspace.start-failed', `the monitor ${agentBinary} did not start`, { cause: error }))
  })
  child.once('spawn', () => resolve({ ended: ended.promise }))
  child.unref()
  return promise
}

/** Looks at the sandbox's folder and tells when a file of a name appears in it. */
export class FolderWatch implements Disposable {
  readonly #watcher: FSWatcher
  readonly #listeners = new Map<string, () => void>()

  constructor(folder: string) {
    this.#watcher = watch(folder, { persistent: false }, (_event, name) => {
      if (name !== null) this.#listeners.get(name)?.()
    })
    // The folder goes with the sandbox; there is nothing more to tell then.
    this.#watcher.on('error', () => this.#watcher.close())
  }

  on(path: string, listener: () => void): void {
    this.#listeners.set(basename(path), listener)
  }

  [Symbol.dispose](): void {
    this.#listeners.clear()
    this.#watcher.close()
  }
}

/** What a runtime prints has lines; a message is one. */
const onOneLine = (text: string): string => text.trim().replaceAll(/\s*\n\s*/g, ' | ')

/** Waits for the monitor's word that the sandbox runs. A failed start rejects with `workspace.start-failed`. */
export async function waitForStatus(
  monitor: StartedMonitor,
  paths: SandboxPaths,
  watcher: FolderWatch,
  signal: AbortSignal,
): Promise<RunningStatus> {
  const seen = settleLater<RunningStatus>()
  const look = (): void => {
    readStatus(paths).then((status) => {
      if (status === null) return
      if (status.state === 'running') seen.resolve(status)
      else seen.reject(new PyroError('workspace.start-failed', `${status.stage}: ${onOneLine(status.message)}`))
    }, seen.reject)
  }
  watcher.on(paths.status, look)
  look()
  void monitor.ended
    .then(() => readStatus(paths))
    .then((status) => {
      if (status === null) seen.reject(new PyroError('workspace.start-failed', 'its monitor was killed'))
      else look()
    }, seen.reject)
  return abortable(seen.promise, signal)
}

/** Rejects when the sandbox ends; nobody waits for a hello from the dead. */
export function rejectOnExit(paths: SandboxPaths, watcher: FolderWatch): Promise<never> {
  const ended = settleLater<never>()
  const look = (): void => {
    readExit(paths).then((exit) => {
      if (exit !== null) ended.reject(new Error(`the sandbox ended at once: ${exit.signal ?? exit.exitCode}`))
    }, ended.reject)
  }
  watcher.on(paths.exit, look)
  look()
  return ended.promise
}

export const readStatus = (paths: SandboxPaths): Promise<MonitorStatus | null> =>
  readIfWritten(paths.status, monitorStatus)

export const readExit = (paths: SandboxPaths): Promise<MonitorExit | null> => readIfWritten(paths.exit, monitorExit)

/** The end of a log, on one line of printable characters: guests can write there. */
export async function tailOf(path: string, limitBytes: number): Promise<string> {
  try {
    await using file = await open(path)
    const { size } = await file.stat()
    const { buffer, bytesRead } = await file.read({
      buffer: Buffer.alloc(Math.min(size, limitBytes)),
      position: Math.max(0, size - limitBytes),
    })
    return buffer
      .toString('utf8', 0, bytesRead)
      .trim()
      .replaceAll(/[^\x20-\x7e]+/g, ' ')
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return ''
    throw error
  }
}

/** The monitor renames its files into place: what is there is whole. */
async function readIfWritten<T>(path: string, schema: z.ZodType<T>): Promise<T | null> {
  try {
    return schema.parse(JSON.parse(await readFile(path, 'utf8')))
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null
    throw error
  }
}

/** How often a tree is looked at again for what it forked meanwhile. */
const FREEZE_ROUNDS = 20
/** From SIGKILL until a tree is gone. */
const TREE_END_MS = 1_000
const TREE_END_STEP_MS = 5

/**
 * Ends a monitor, and the runtime it may be calling, of a start that was cut short. A runtime whose monitor was killed may be about
 * to die of that, and still make control groups meanwhile: it is ended, too. All are stopped first, until a look finds nothing
 * new: what is forked while it is being killed would live on without a parent. Looks through all processes of the host, so it is
 * for reclaiming only; what is read of those that are not ours cannot make us wait.
 */
export async function killMonitorTree(paths: SandboxPaths): Promise<void> {
  const tree = new Map<number, HostProcess>()
  for (let round = 0; round < FREEZE_ROUNDS; round++) {
    const members = await monitorTree(paths, [...tree.values()])
    const fresh = members.filter(({ pid }) => !tree.has(pid))
    if (fresh.length === 0) break
    for (const member of fresh) {
      tree.set(member.pid, member)
      signalProcess(member, 'SIGSTOP')
    }
  }
  for (const member of tree.values()) signalProcess(member, 'SIGKILL')
  const until = performance.now() + TREE_END_MS
  while ([...tree.values()].some(isAlive) && performance.now() < until) await sleep(TREE_END_STEP_MS)
}

async function monitorTree(paths: SandboxPaths, known: readonly HostProcess[]): Promise<HostProcess[]> {
  const table = await readProcessTable()
  const roots = known.length > 0 ? known : await rootsIn(table, paths)
  const children = Map.groupBy(table, ({ parentPid }) => parentPid)
  const treeOf = (root: HostProcess): HostProcess[] => [root, ...(children.get(root.pid) ?? []).flatMap(treeOf)]
  return roots.flatMap(treeOf)
}

/** Programs that a monitor calls: what only looks at a file of a sandbox has another name. */
const RUNTIMES = /^(pyro-agent|runc|runsc|sh|unshare|setpriv)/

/** Monitors, and calls of a runtime that outlived theirs: the monitor began their session. */
async function rootsIn(table: readonly HostProcess[], paths: SandboxPaths): Promise<HostProcess[]> {
  const alive = new Set(table.map(({ pid }) => pid))
  const roots: HostProcess[] = []
  for (const candidate of table) {
    const mayBeMonitor = candidate.command.startsWith('pyro-agent')
    const isLeft = candidate.session > 0 && !alive.has(candidate.session) && RUNTIMES.test(candidate.command)
    if (candidate.uid !== 0 || !(mayBeMonitor || isLeft)) continue
    const argv = await readArgv(candidate.pid)
    const isMonitor = mayBeMonitor && argv[1] === 'monitor' && argv[2] === paths.monitorSpec
    if (isMonitor || (isLeft && argv.some((argument) => `${valueOf(argument)}/`.startsWith(`${paths.folder}/`))))
      roots.push(candidate)
  }
  return roots
}

/** The living init and its monitor: from the record, else (a start that was cut short) from what the monitor wrote. */
export async function findProcesses(
  record: SandboxTrace,
  paths: SandboxPaths,
): Promise<(ProcessIdentity & { monitorPid: number; monitorStartTime: string }) | null> {
  const { pid, startTime, monitorPid, monitorStartTime } = record.details
  const found =
    typeof pid === 'number' && typeof monitorPid === 'number'
      ? { pid, startTime: String(startTime), monitorPid, monitorStartTime: String(monitorStartTime) }
      : await readStatus(paths)
  if (found === null || !('pid' in found)) return null
  return isAlive(found) ? found : null
}
