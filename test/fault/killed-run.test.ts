import { spawn, type ChildProcess } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, test } from 'vitest'
import { availableDrivers } from '../support/every-driver.ts'
import { clearDeadRuns, nameOf, placesOf } from '../support/host-run.ts'
import { lookAtHost, type HostPlaces, type HostSight } from '../support/host-sight.ts'
import { until } from '../support/world.ts'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const VITEST = join(ROOT, 'node_modules', '.bin', 'vitest')
const HELD_RUN = join(ROOT, 'test', 'fault', 'held-run.ts')
/** Makes workspaces on every driver. */
const LONG_FILE = 'test/e2e/reset.test.ts'
const SHORT_FILE = 'test/sdk/calls.test.ts'
/** On a busy host, where machines are emulated. */
const RUN_MS = 90_000

const children: StartedRun[] = []
afterAll(async () => {
  for (const child of children) child.signal('SIGKILL')
  await Promise.all(children.map((child) => child.end))
  await clearDeadRuns()
})

/** A run in a process group of its own, as a terminal starts it. */
class StartedRun {
  readonly end: Promise<number | null>
  output = ''
  readonly #child: ChildProcess

  constructor(program: string, args: readonly string[]) {
    // oxlint-disable-next-line no-unused-vars -- left out
    const { REQUIRE_DRIVERS: _, ...env } = process.env
    this.#child = spawn(program, args, { cwd: ROOT, env, detached: true, stdio: 'pipe' })
    this.#child.stdout?.on('data', (chunk: Buffer) => (this.output += chunk.toString()))
    this.#child.stderr?.on('data', (chunk: Buffer) => (this.output += chunk.toString()))
    this.end = new Promise((resolve) => this.#child.once('close', resolve))
    children.push(this)
  }

  /** Known as soon as it has begun. */
  get places(): HostPlaces {
    const name = nameOf(this.#child.pid ?? 0)
    if (name === null) throw new Error(`the run has ended: ${this.output}`)
    return placesOf(name)
  }

  async ready(): Promise<void> {
    await until(() => this.output.includes('ready'), 'the run to be ready', RUN_MS)
  }

  async passed(): Promise<void> {
    const code = await this.end
    if (code !== 0) throw new Error(`the run ended with ${code}: ${this.output}`)
  }

  letEnd(): void {
    this.#child.stdin?.end()
  }

  signal(signal: NodeJS.Signals): void {
    const { pid, exitCode, signalCode } = this.#child
    if (pid !== undefined && exitCode === null && signalCode === null) process.kill(-pid, signal)
  }
}

const vitest = (file: string): StartedRun => new StartedRun(VITEST, ['run', '--project', 'host', file])
const heldRun = (drivers: readonly string[]): StartedRun => new StartedRun(process.execPath, [HELD_RUN, ...drivers])

const inTheMiddle = async (run: StartedRun): Promise<HostPlaces> => {
  const hasSandbox = async (): Promise<boolean> =>
    (await lookAtHost(run.places)).processes.some(({ what }) => / monitor .*\/ws-/.test(what))
  await until(hasSandbox, `a sandbox of the run: ${run.output}`, RUN_MS)
  return run.places
}

const freeze = ({ cgroups }: HostSight): void => {
  for (const cgroup of cgroups.filter((path) => /-g\d+$/.test(path))) {
    for (const [file, value] of [
      ['freezer.state', 'FROZEN'],
      ['cgroup.freeze', '1'],
    ] as const) {
      if (existsSync(join(cgroup, file))) writeFileSync(join(cgroup, file), value)
    }
  }
}

const leftOf = async (places: HostPlaces): Promise<string[]> => {
  const { lines } = await lookAtHost(places)
  return [...lines, ...places.folders.filter((folder) => existsSync(folder))]
}

describe('a run that is killed', () => {
  test('is cleared by the next, whatever that runs, and one that lives is left alone', async () => {
    const drivers = availableDrivers()
    const [frozen, alive] = [heldRun(drivers), heldRun(drivers.slice(0, 1))]
    await Promise.all([frozen.ready(), alive.ready()])
    const killed = vitest(LONG_FILE)
    const places = { killed: await inTheMiddle(killed), frozen: frozen.places }
    freeze(await lookAtHost(places.frozen))
    for (const run of [killed, frozen]) run.signal('SIGKILL')
    await Promise.all([killed.end, frozen.end])
    // How much there is of the one depends on where it was; what was frozen is all there.
    expect(await leftOf(places.killed)).not.toEqual([])
    const { processes, mounts, cgroups } = await lookAtHost(places.frozen)
    expect([processes, mounts, cgroups].map((found) => found.length > 0)).toEqual([true, true, true])

    const next = vitest(SHORT_FILE)
    await next.passed()
    for (const of of Object.values(places)) await expect.poll(() => leftOf(of), { timeout: RUN_MS }).toEqual([])
    alive.letEnd()
    await alive.passed()
  })

  test('by Ctrl-C is cleared at once', async () => {
    const run = vitest(LONG_FILE)
    const places = await inTheMiddle(run)
    run.signal('SIGINT')
    await run.end
    await expect.poll(() => leftOf(places), { timeout: RUN_MS }).toEqual([])
  })
})
