import { DRIVERS, type TestedDriver } from '@pyro/driver-testkit'
import type { TestProject } from 'vitest/node'
import { HostRun } from './host-run.ts'
import { ENVIRONMENT, World } from './world.ts'

declare module 'vitest' {
  interface ProvidedContext {
    readonly drivers: readonly TestedDriver[]
  }
}

/** What the projects of one run share. */
let shared: Promise<{ readonly run: HostRun; readonly works: readonly TestedDriver[] }> | null = null
let projects = 0

export default async (project: TestProject): Promise<() => void> => {
  projects += 1
  const { run, works } = await (shared ??= begin())
  project.provide('drivers', works)
  return () => {
    projects -= 1
    if (projects === 0) run[Symbol.dispose]()
  }
}

/** Tries each driver for real, once, and builds the environment that the cases share. */
const begin = async (): Promise<{ run: HostRun; works: readonly TestedDriver[] }> => {
  const run = await HostRun.begin()
  await using world = await World.open()
  const { capabilities } = await world.pyro.doctor()
  const [required, only] = [namesIn('REQUIRE_DRIVERS'), namesIn('PYRO_TEST_DRIVERS')]
  const asked = DRIVERS.filter((driver) => only.length === 0 || only.includes(driver))
  const works = asked.filter((driver) => capabilities.some(({ id, ok }) => id.endsWith(driver) && ok))
  for (const driver of DRIVERS) {
    const capability = capabilities.find(({ id }) => id.endsWith(driver))
    const verdict = works.includes(driver)
      ? 'runs here'
      : asked.includes(driver)
        ? 'does NOT run here'
        : 'is left out of this run (PYRO_TEST_DRIVERS)'
    process.stdout.write(`driver ${driver} ${verdict}: ${capability?.detail ?? 'unknown to this engine'}\n`)
  }
  const missing = required.filter((name) => !works.some((driver) => driver === name))
  if (missing.length > 0) throw new Error(`REQUIRE_DRIVERS names what does not run here: ${missing.join(', ')}`)
  await world.pyro.environments.pull(ENVIRONMENT)
  return { run, works }
}

const namesIn = (variable: string): string[] => (process.env[variable] ?? '').split(',').filter((name) => name !== '')
