import { readFileSync } from 'node:fs'
import { chown, mkdir, readdir, readFile, rmdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { PyroError } from '@pyro/protocol'
import type { LimitCounters } from '../../driver/driver.ts'
import { sleep } from '../../lib/wait.ts'
import { errnoOf } from '../../process/identity.ts'
import type { CgroupHost, Controller } from '../../process/cgroup-host.ts'

const MIB = 1024 * 1024
const CPU_PERIOD_US = 100_000
/** What user commands leave to the agent: it must answer when they have used up everything else. */
const PIDS_RESERVE = 64
const MEMORY_RESERVE_BYTES = 48 * MIB
/** Of small sandboxes the reserve is at most this part. */
const MEMORY_RESERVE_PART = 4
const KILL_STEP_MS = 5
const KILL_STEP_MOST_MS = 100
/** A process that is still there after this is stuck in the kernel. */
const KILL_DEADLINE_MS = 20_000
const REMOVE_TRIES = 40

export interface CgroupLimits {
  readonly memoryMib: number
  readonly pidsMax: number
  readonly vcpus: number
}

/**
 * The control groups of one sandbox: `<controller>/pyro/<home>/<sandbox>` carries the limits. Where user commands stand apart,
 * `init` below it holds the agent and `user` the commands; else it holds all processes itself.
 */
export class SandboxCgroup {
  readonly #host: CgroupHost
  readonly #name: string

  readonly #apart: boolean

  constructor(host: CgroupHost, options: { homeName: string; sandboxId: string; commandsApart: boolean }) {
    this.#host = host
    this.#apart = options.commandsApart
    this.#name = join('pyro', options.homeName, options.sandboxId)
  }

  /** What the runtime calls `cgroupsPath`. */
  get ociPath(): string {
    return join('/', this.#name, this.#apart ? 'init' : '')
  }

  /** v1: the `tasks` files that move a thread among the user commands. */
  get userTasks(): readonly string[] {
    return this.#apart && this.#host.mode === 'v1' ? this.#folders('user').map((folder) => join(folder, 'tasks')) : []
  }

  /** v2: the directory of the user commands. */
  get userDirectory(): string | null {
    return this.#apart && this.#host.mode === 'v2' ? join(this.#host.mount, this.#name, 'user') : null
  }

  /** v1: the `tasks` files, v2: the directory, through which a process gets into the group of the whole sandbox. */
  get whole(): { readonly tasks: readonly string[]; readonly directory: string | null } {
    if (this.#host.mode === 'v2') return { tasks: [], directory: join(this.#host.mount, this.#name) }
    return { tasks: this.#folders('').map((folder) => join(folder, 'tasks')), directory: null }
  }

  /** Files whose numbers say that a limit of the whole sandbox was hit. */
  get counterFiles(): readonly string[] {
    return [...this.#eventFiles('memory'), ...this.#eventFiles('pids')]
  }

  async create(limits: CgroupLimits, owner: number): Promise<void> {
    await Promise.all(this.#folders('').map((folder) => makeFolder(folder)))
    if (this.#host.mode === 'v2') await this.#delegate(this.#host.mount)
    await this.#limit('', limits)
    if (!this.#apart) return
    await Promise.all(['init', 'user'].flatMap((group) => this.#folders(group).map((folder) => makeFolder(folder))))
    const memoryBytes = limits.memoryMib * MIB
    const reserve = Math.min(MEMORY_RESERVE_BYTES, memoryBytes / MEMORY_RESERVE_PART)
    await this.#limit('user', {
      ...limits,
      memoryMib: Math.floor((memoryBytes - reserve) / MIB),
      pidsMax: Math.max(1, limits.pidsMax - PIDS_RESERVE),
    })
    if (this.#host.mode === 'v2') await this.#handOver(owner)
  }

  /** Everything that runs in the sandbox, as this host counts it. */
  async pids(): Promise<number[]> {
    const found = new Set<number>()
    for (const group of ['', 'init', 'user']) {
      for (const folder of this.#folders(group)) {
        for (const line of (await readIfThere(join(folder, 'cgroup.procs'))).split('\n')) {
          if (line !== '' && line !== '0') found.add(Number(line))
        }
      }
    }
    return [...found]
  }

  /** Kills until the groups are empty: the only proof that nothing uses the disk. Stopped and frozen processes too. */
  async killAll(): Promise<void> {
    const deadline = performance.now() + KILL_DEADLINE_MS
    for (let pauseMs = KILL_STEP_MS; ; pauseMs = Math.min(pauseMs * 2, KILL_STEP_MOST_MS)) {
      const pids = await this.pids()
      if (pids.length === 0) return
      if (performance.now() > deadline)
        throw new PyroError('internal', `processes ${pids.join(', ')} of ${this.#name} do not end although killed`)
      if (this.#host.mode === 'v2') await writeIfThere(join(this.#host.mount, this.#name, 'cgroup.kill'), '1')
      for (const pid of pids) kill(pid)
      await this.#thaw()
      await sleep(pauseMs)
    }
  }

  /** At once: each command waits for it, and a turn through the thread pool costs more than all of these reads. */
  counters(): LimitCounters {
    return { memory: this.#eventsOf('memory', 'oom_kill'), pids: this.#eventsOf('pids', 'max') }
  }

  #eventsOf(controller: 'memory' | 'pids', key: string): number {
    return this.#eventFiles(controller).reduce((sum, file) => sum + eventCount(readNow(file), key), 0)
  }

  /** Idempotent. The groups must be empty. */
  async remove(): Promise<void> {
    const roots = this.#host.mode === 'v1' ? this.#host.hierarchies : [this.#host.mount]
    await Promise.all(
      roots.map(async (root) => {
        const folder = join(root, this.#name)
        for (const child of await childFolders(folder)) await removeTree(join(folder, child))
        await removeFolder(folder)
        // The last sandbox of a home takes the home's folders with it.
        if (await removeIfEmpty(dirname(folder))) await removeIfEmpty(dirname(dirname(folder)))
      }),
    )
  }

  #folders(group: string): string[] {
    const mounts = this.#host.mode === 'v1' ? [...new Set(this.#host.controllers.values())] : [this.#host.mount]
    return mounts.map((mount) => join(mount, this.#name, group))
  }

  #file(controller: Controller, group: string, name: string): string | null {
    const mount = this.#host.mode === 'v1' ? this.#host.controllers.get(controller) : this.#host.mount
    return mount === undefined ? null : join(mount, this.#name, group, name)
  }

  /** v2 counts the events of children in their parents; v1 where they happened. */
  #eventFiles(controller: 'memory' | 'pids'): string[] {
    const name =
      controller === 'pids' ? 'pids.events' : this.#host.mode === 'v1' ? 'memory.oom_control' : 'memory.events'
    const everywhere = this.#apart && (this.#host.mode === 'v1' || controller === 'pids')
    const groups = everywhere ? ['', 'init', 'user'] : ['']
    return groups.flatMap((group) => this.#file(controller, group, name) ?? [])
  }

  async #limit(group: string, limits: CgroupLimits): Promise<void> {
    const memory = String(limits.memoryMib * MIB)
    const quota = Math.max(1000, Math.round(limits.vcpus * CPU_PERIOD_US))
    const set = async (controller: Controller, name: string, value: string): Promise<void> => {
      const file = this.#file(controller, group, name)
      if (file !== null) await writeFile(file, value)
    }
    await set('pids', 'pids.max', String(limits.pidsMax))
    if (this.#host.mode === 'v1') {
      await set('memory', 'memory.limit_in_bytes', memory)
      // Only kernels that account swap have it; elsewhere swap is outside of any limit on v1.
      const swap = this.#file('memory', group, 'memory.memsw.limit_in_bytes')
      if (swap !== null) await writeIfThere(swap, memory)
      if (group === '') {
        await set('cpu', 'cpu.cfs_period_us', String(CPU_PERIOD_US))
        await set('cpu', 'cpu.cfs_quota_us', String(quota))
      }
      return
    }
    await set('memory', 'memory.max', memory)
    const swap = this.#file('memory', group, 'memory.swap.max')
    if (swap !== null) await writeIfThere(swap, '0')
    if (group === '') await set('cpu', 'cpu.max', `${quota} ${CPU_PERIOD_US}`)
  }

  /** v2: every ancestor passes the controllers on. */
  async #delegate(mount: string): Promise<void> {
    let folder = mount
    const parts = ['', ...this.#name.split('/')]
    for (const part of this.#apart ? parts : parts.slice(0, -1)) {
      folder = join(folder, part)
      await writeFile(join(folder, 'cgroup.subtree_control'), '+memory +pids +cpu')
    }
  }

  /** v2: root inside may move processes between the groups of its own sandbox, and change nothing else. */
  async #handOver(owner: number): Promise<void> {
    for (const group of ['', 'init', 'user'])
      for (const folder of this.#folders(group)) await chown(join(folder, 'cgroup.procs'), owner, owner)
  }

  async #thaw(): Promise<void> {
    for (const group of ['', 'init', 'user']) {
      const file = this.#file('freezer', group, this.#host.mode === 'v1' ? 'freezer.state' : 'cgroup.freeze')
      if (file !== null) await writeIfThere(file, this.#host.mode === 'v1' ? 'THAWED' : '0')
    }
  }
}

/** Names of the sandboxes of a home that have control groups. */
export async function listSandboxCgroups(host: CgroupHost, homeName: string): Promise<Map<string, string>> {
  const found = new Map<string, string>()
  for (const root of host.mode === 'v1' ? host.hierarchies : [host.mount]) {
    const folder = join(root, 'pyro', homeName)
    for (const name of await childFolders(folder)) found.set(join(folder, name), name)
  }
  return found
}

/** `key value` lines; 0 when the key is not there. */
export function eventCount(text: string, key: string): number {
  const line = text.split('\n').find((candidate) => candidate.startsWith(`${key} `))
  return line === undefined ? 0 : Number(line.slice(key.length + 1))
}

/** A home's folder may vanish with its last sandbox while a new one is made. */
async function makeFolder(folder: string): Promise<void> {
  for (let tries = 3; ; tries -= 1) {
    try {
      await mkdir(folder, { recursive: true, mode: 0o755 })
      return
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT' || tries === 1) throw error
    }
  }
}

async function childFolders(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder, { withFileTypes: true }))
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => name)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return []
    throw error
  }
}

async function removeTree(folder: string): Promise<void> {
  for (const child of await childFolders(folder)) await removeTree(join(folder, child))
  await removeFolder(folder)
}

/** A group that has just become empty can stay busy for a moment. */
async function removeFolder(folder: string): Promise<void> {
  for (let tries = REMOVE_TRIES; ; tries -= 1) {
    try {
      await rmdir(folder)
      return
    } catch (error) {
      const errno = errnoOf(error)
      if (errno === 'ENOENT') return
      if (errno !== 'EBUSY' || tries === 1) throw error
      await sleep(KILL_STEP_MS)
    }
  }
}

/** True when it is gone, by whomever: an engine killed in between has left the folder above to the next one. */
async function removeIfEmpty(folder: string): Promise<boolean> {
  try {
    await rmdir(folder)
    return true
  } catch (error) {
    const errno = errnoOf(error)
    if (errno === 'ENOENT') return true
    if (errno === 'EBUSY' || errno === 'ENOTEMPTY') return false
    throw error
  }
}

async function readIfThere(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    return nothingWhenGone(error)
  }
}

function readNow(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    return nothingWhenGone(error)
  }
}

function nothingWhenGone(error: unknown): string {
  const errno = errnoOf(error)
  if (errno === 'ENOENT' || errno === 'ENODEV') return ''
  throw error
}

async function writeIfThere(file: string, value: string): Promise<void> {
  try {
    await writeFile(file, value, { flag: 'r+' })
  } catch (error) {
    const errno = errnoOf(error)
    if (errno !== 'ENOENT' && errno !== 'ENODEV') throw error
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch (error) {
    if (errnoOf(error) !== 'ESRCH') throw error
  }
}
