import { basename, join } from 'node:path'
import { PyroError } from '@pyro/protocol'
import { sleep } from '../../lib/wait.ts'
import { signalProcess } from '../../process/identity.ts'
import {
  mountNamespaceOf,
  readArgv,
  readCgroups,
  readMountsOf,
  readProcessTable,
  type HostProcess,
} from '../../process/process-table.ts'
import { sandboxesFolder } from './sandbox-paths.ts'

/** Files of /proc. The threads that read them serve everybody. */
const READ_AT_ONCE = 2
const KILL_STEP_MS = 10
const KILL_DEADLINE_MS = 5_000

export interface SandboxProcess extends HostProcess {
  readonly sandboxId: string
  /** False when only its arguments name the sandbox: it may be somebody who looks at a file there. */
  readonly certain: boolean
}

/**
 * The processes of this home's sandboxes that have no parent in the same sandbox. The control group tells, else the channel folder
 * that only the mounts of one sandbox show, else (monitors, calls of a runtime) arguments of a process of the host's root: what
 * runs inside writes its own arguments, and is never believed.
 */
export function findSandboxProcesses(runtimeDir: string): Promise<SandboxProcess[]> {
  const underWay = scans.get(runtimeDir)
  if (underWay !== undefined) return underWay
  const scan = scanProcesses(runtimeDir).finally(() => scans.delete(runtimeDir))
  scans.set(runtimeDir, scan)
  return scan
}

/** Drivers of one home ask at the same time, and all see the same. */
const scans = new Map<string, Promise<SandboxProcess[]>>()

async function scanProcesses(runtimeDir: string): Promise<SandboxProcess[]> {
  const byNamespace = new Map<string, Promise<string | null>>()
  const own = mountNamespaceOf(process.pid)
  const found: SandboxProcess[] = []
  const queue = (await readProcessTable()).values()
  await Promise.all(
    Array.from({ length: READ_AT_ONCE }, async () => {
      for (const candidate of queue) {
        const owner = await ownerOf(candidate)
        if (owner !== null) found.push({ ...candidate, ...owner })
      }
    }),
  )
  const sandboxes = new Map(found.map(({ pid, sandboxId }) => [pid, sandboxId]))
  return found.filter(({ parentPid, sandboxId }) => sandboxes.get(parentPid) !== sandboxId)

  async function ownerOf({ pid, uid }: HostProcess): Promise<Pick<SandboxProcess, 'sandboxId' | 'certain'> | null> {
    const inside = sandboxOfCgroup(await readCgroups(pid), runtimeDir) ?? (await sandboxOfNamespace(pid))
    if (inside !== null) return { sandboxId: inside, certain: true }
    const named = uid === 0 ? sandboxOfArguments(await readArgv(pid), runtimeDir) : null
    return named === null ? null : { sandboxId: named, certain: false }
  }

  async function sandboxOfNamespace(pid: number): Promise<string | null> {
    const namespace = mountNamespaceOf(pid)
    if (namespace === null || namespace === own) return null
    const known = byNamespace.get(namespace)
    if (known !== undefined) return known
    const looked = readMountsOf(pid).then((mounts) => sandboxOfMounts(mounts, runtimeDir))
    byNamespace.set(namespace, looked)
    return looked
  }
}

/** For sandboxes without control groups. Kills until none of its processes is left. */
export async function killSandboxProcesses(runtimeDir: string, sandboxId: string): Promise<void> {
  const deadline = performance.now() + KILL_DEADLINE_MS
  for (;;) {
    const left = (await findSandboxProcesses(runtimeDir)).filter((one) => one.sandboxId === sandboxId && one.certain)
    if (left.length === 0) return
    if (performance.now() > deadline)
      throw new PyroError('internal', `processes ${left.map(({ pid }) => pid).join(', ')} do not end although killed`)
    for (const identity of left) signalProcess(identity, 'SIGKILL')
    await sleep(KILL_STEP_MS)
  }
}

/** `4:memory:/pyro/<home>/<sandbox>/user` */
export function sandboxOfCgroup(text: string, runtimeDir: string): string | null {
  return firstPart(text, `/pyro/${basename(runtimeDir)}/`)
}

/** The channel is seen from inside by its place on the filesystem of the runtime folder, also after it was removed. */
export function sandboxOfMounts(mounts: readonly { readonly root: string }[], runtimeDir: string): string | null {
  const place = `/${join(basename(runtimeDir), basename(sandboxesFolder(runtimeDir)))}/`
  const channel = mounts.find(
    ({ root }) => root.includes(place) && root.replace(/\/\/deleted$/, '').endsWith('/channel'),
  )
  return channel === undefined ? null : firstPart(channel.root, place)
}

export function sandboxOfArguments(argv: readonly string[], runtimeDir: string): string | null {
  const place = `${sandboxesFolder(runtimeDir)}/`
  const named = argv.find((argument) => valueOf(argument).startsWith(place))
  return named === undefined ? null : firstPart(named, place)
}

/** `--root=/x` → `/x`. */
export const valueOf = (argument: string): string => argument.replace(/^--[\w-]+=/, '')

/** `x/<place>name/rest` → `name`. */
function firstPart(text: string, place: string): string | null {
  const at = text.indexOf(place)
  if (at < 0) return null
  const name = /^[^/\n]+/.exec(text.slice(at + place.length))?.[0]
  return name ?? null
}
