import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
} from 'node:fs'
import { constants, tmpdir } from 'node:os'
import { join } from 'node:path'
import { clearHost } from './host-clearing.ts'
import type { HostPlaces } from './host-sight.ts'

const VOLATILE = '/run'
const NAME = /^pyro-run-(\d+)-[0-9a-f]{6}$/
const MARK_DIGITS = 6
const HASH = /^[0-9a-f]{12}$/
/** In the volatile folder: a link to the other. */
const TEMPORARY = 'temporary'
/** The volatile folder, for the processes of the run. */
const VARIABLE = 'PYRO_TEST_RUN_DIR'
const CLEARER = join(import.meta.dirname, 'clear-dead-runs.ts')
const ENDING = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/**
 * A process that makes homes on this host, such as a run of the tests. All that it and its children make lies in two folders that are
 * named after it: one below the temporary folder, which `TMPDIR` names meanwhile, and one below /run. So whoever comes later can tell
 * what a run that was killed has left.
 */
export class HostRun implements Disposable {
  /** For volatile state of engines; short and passable. */
  readonly runtimeDir: string
  readonly #temporary: string
  readonly #outer: string

  private constructor(name: string) {
    this.#outer = tmpdir()
    this.#temporary = join(this.#outer, name)
    this.runtimeDir = join(VOLATILE, name)
  }

  /** Clears what dead runs have left, first. */
  static async begin(): Promise<HostRun> {
    await clearDeadRuns()
    const name = nameOf(process.pid)
    if (name === null) throw new Error('this process is not in /proc')
    const run = new HostRun(name)
    run.#make()
    // Broken off, it still ends with `exit`, and another process clears what it leaves.
    for (const signal of ENDING) process.once(signal, () => process.exit(128 + constants.signals[signal]))
    process.once('exit', run.#leave)
    return run
  }

  #make(): void {
    mkdirSync(this.runtimeDir)
    chmodSync(this.runtimeDir, 0o711)
    symlinkSync(this.#temporary, join(this.runtimeDir, TEMPORARY))
    mkdirSync(this.#temporary)
    // As the folder that it stands for.
    chmodSync(this.#temporary, 0o1777)
    Object.assign(process.env, { TMPDIR: this.#temporary, [VARIABLE]: this.runtimeDir })
  }

  /** What its homes held is gone already: a folder that is in use is an error. */
  [Symbol.dispose](): void {
    for (const folder of [this.#temporary, this.runtimeDir]) rmSync(folder, { recursive: true, force: true })
    process.off('exit', this.#leave)
    process.env['TMPDIR'] = this.#outer
    delete process.env[VARIABLE]
  }

  readonly #leave = (): void => {
    const env = { ...process.env, TMPDIR: this.#outer }
    spawn(process.execPath, [CLEARER, String(process.pid)], { detached: true, stdio: 'ignore', env }).unref()
  }
}

/** A folder of this run below /run, for what has to be short or passable. */
export const volatileFolder = (prefix: string): string => {
  const folder = mkdtempSync(join(process.env[VARIABLE] ?? VOLATILE, prefix))
  chmodSync(folder, 0o711)
  return folder
}

/** Ends and takes away what runs have left whose process is gone, and says so. */
export const clearDeadRuns = async (): Promise<void> => {
  const names = new Set([...readdirSync(VOLATILE), ...readdirSync(tmpdir())].filter(isOfDead))
  await Promise.all([...names].map(clearRun))
}

/** All that a run may have on this host. */
export const placesOf = (name: string): HostPlaces => {
  const volatile = join(VOLATILE, name)
  const temporary = linkOf(join(volatile, TEMPORARY)) ?? join(tmpdir(), name)
  // Homes have their hash in it, or in the folder of their world in it.
  const names = namesBelow(volatile).flatMap((below) => [below, ...namesBelow(join(volatile, below))])
  return { folders: [temporary, volatile], hashes: names.filter((it) => HASH.test(it)) }
}

const clearRun = async (name: string): Promise<void> => {
  const left = await clearHost(placesOf(name))
  const but = left.length === 0 ? '' : `, but for:\n${left.join('\n')}`
  process.stderr.write(`cleared what the dead run ${name} has left${but}\n`)
}

const isOfDead = (name: string): boolean => {
  const pid = NAME.exec(name)?.[1]
  return pid !== undefined && nameOf(Number(pid)) !== name
}

/** Pids are used again: the mark is of this boot and the time at which the process began. Null when none runs. */
export const nameOf = (pid: number): string | null => {
  const stat = reading(() => readFileSync(`/proc/${pid}/stat`, 'latin1'))
  if (stat === null) return null
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const [state = '', started = ''] = [fields[0], fields[19]]
  if ('ZX'.includes(state)) return null
  const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8')
  const mark = createHash('sha256').update(`${boot}${started}`).digest('hex').slice(0, MARK_DIGITS)
  return `pyro-run-${pid}-${mark}`
}

const namesBelow = (folder: string): string[] => reading(() => readdirSync(folder)) ?? []

const linkOf = (path: string): string | null => reading(() => readlinkSync(path))

/** Null for what is gone, or is no folder. */
const reading = <T>(read: () => T): T | null => {
  try {
    return read()
  } catch (error) {
    if (!['ENOENT', 'ENOTDIR', 'ESRCH'].includes(String((error as NodeJS.ErrnoException).code))) throw error
    return null
  }
}
