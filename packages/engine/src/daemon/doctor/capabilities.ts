import { isPyroError, PyroError, type Capability } from '@pyro/protocol'
import type { Driver, Probe } from '../../driver/driver.ts'
import { errorFields } from '../../lib/log.ts'
import { withDeadline } from '../../lib/wait.ts'
import type { Engine } from '../engine.ts'
import { diskChecks } from './disk-checks.ts'
import { hostChecks } from './host-checks.ts'

const CHECK_DEADLINE_MS = 10_000
/** Trying a driver starts a sandbox, which has 15 s of its own and is then released. */
const PROBE_DEADLINE_MS = 30_000

export type Verdict = Pick<Capability, 'ok' | 'detail' | 'fix'>

/** One line of `doctor`. A check that throws or is late has failed. */
export interface Check {
  readonly id: string
  readonly required: boolean
  readonly run: () => Promise<Verdict>
}

/** In the order in which they are shown. Bounded in time. */
export const checkCapabilities = async (engine: Engine): Promise<Capability[]> => {
  const { all } = engine.services.drivers
  const probes = all.map((driver) => probeOf(engine, driver))
  const emulation = all.map(async (driver, index) => kvmCapability(driver, await probes[index]))
  const [host, disk, drivers, kvm, isolation] = await Promise.all([
    Promise.all(hostChecks(engine).map((check) => run(engine, check))),
    Promise.all(diskChecks(engine).map((check) => run(engine, check))),
    Promise.all(all.map(async ({ id }, index) => driverCapability(id, await probes[index]))),
    Promise.all(emulation),
    Promise.all([Promise.all(probes), Promise.all(emulation)]).then((all) => isolationCapability(engine, ...all)),
  ])
  return [...host, ...drivers, ...kvm.filter((verdict) => verdict !== null), isolation, ...disk]
}

const run = async (engine: Engine, { id, required, run: check }: Check): Promise<Capability> => {
  try {
    return { id, required, ...(await withDeadline(check(), CHECK_DEADLINE_MS, () => late(CHECK_DEADLINE_MS))) }
  } catch (error) {
    engine.services.log.warn({ check: id, ...errorFields(error) }, 'a check failed')
    return { id, required, ok: false, detail: messageOf(error), fix: isPyroError(error) ? error.hint : null }
  }
}

const probeOf = async ({ services }: Engine, driver: Driver): Promise<Probe> => {
  try {
    return await withDeadline(services.drivers.probe(driver), PROBE_DEADLINE_MS, () => late(PROBE_DEADLINE_MS))
  } catch (error) {
    return { ok: false, detail: messageOf(error), fix: null }
  }
}

const driverCapability = (id: string, probe: Probe | undefined): Capability => ({
  id: `driver-${id}`,
  required: false,
  ok: probe?.ok ?? false,
  detail: probe?.detail ?? 'not tried',
  fix: probe?.fix ?? null,
})

/** Whether a driver that works without it runs its guests on the processor itself; null where that is no question. */
const kvmCapability = async (driver: Driver, probe: Probe | undefined): Promise<Capability | null> => {
  if (probe?.ok !== true) return null
  const about = { id: `kvm-${driver.id}`, required: false }
  const signal = AbortSignal.timeout(PROBE_DEADLINE_MS)
  try {
    const verdict = await driver.accelerated({ signal })
    if (verdict === null || verdict.ok) return verdict === null ? null : { ...about, ...verdict }
    return { ...about, ...verdict, detail: `${verdict.detail}; its guests are emulated` }
  } catch (error) {
    return { ...about, ok: false, detail: messageOf(error), fix: null }
  }
}

/** The one thing without which nothing works: some isolation, be it one that a user has to ask for. */
const isolationCapability = async (
  engine: Engine,
  probes: readonly Probe[],
  kvm: readonly (Capability | null)[],
): Promise<Capability> => {
  const { all } = engine.services.drivers
  const works = all.filter(({ isolation }, index) => isolation !== 'none' && probes[index]?.ok === true)
  const emulated = all.filter((_driver, index) => kvm[index]?.ok === false)
  const names = works
    .map((driver) => `${driver.isolation} (${driver.id}${emulated.includes(driver) ? ', emulated' : ''})`)
    .join(', ')
  const fix = probes.findLast(({ ok, fix: remedy }) => !ok && remedy !== null)?.fix ?? null
  const about = { id: 'isolation', required: true }
  const [first] = works
  if (first === undefined) return { ...about, ok: false, detail: 'no driver works on this host', fix }
  const chosen = await automatic(engine)
  if (chosen === undefined)
    return { ...about, ok: true, detail: `${names}; what a create takes is being tried`, fix: null }
  if (chosen !== null) return { ...about, ok: true, detail: `${names}; a create takes ${chosen}`, fix: null }
  return { ...about, ok: true, detail: `${names}; a create has to say --driver ${first.id}`, fix }
}

/** The driver that a create takes which names none; null when it would refuse, undefined when that takes longer to find out. */
const automatic = async ({ services }: Engine): Promise<string | null | undefined> => {
  try {
    const signal = AbortSignal.timeout(PROBE_DEADLINE_MS)
    const choice = services.drivers.choose({ driver: 'auto', isolation: 'auto' }, { signal })
    return (await withDeadline(choice, CHECK_DEADLINE_MS, () => late(CHECK_DEADLINE_MS))).driver.id
  } catch (error) {
    if (isPyroError(error) && error.code === 'isolation.unavailable') return null
    if (isPyroError(error) && error.code === 'request.timed-out') return undefined
    throw error
  }
}

const late = (deadlineMs: number): PyroError =>
  new PyroError('request.timed-out', `no answer within ${deadlineMs / 1000} s`)

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))
