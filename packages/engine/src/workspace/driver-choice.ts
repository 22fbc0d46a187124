import { PyroError, type Isolation } from '@pyro/protocol'
import type { Driver, PrepareContext, Probe } from '../driver/driver.ts'

/** A driver that does not work is tried again after this time; one that works is trusted for the life of the engine. */
const RETRY_PROBE_MS = 15_000
const WEAKER = '--driver runc (weaker: shares the kernel of the host); `pyro doctor` says what is missing'
const WAYS_OUT: Readonly<Record<Isolation | 'auto', string>> = {
  auto: WEAKER,
  gvisor: WEAKER,
  microvm: '--driver qemu (imitates the processor: slower); `pyro doctor` says what is missing',
  container: 'pyro doctor',
}

interface Verdict {
  readonly probe: Promise<Probe>
  readonly atMs: number
  ok: boolean | null
}

export interface ChosenDriver {
  readonly driver: Driver
  /** Its processor is imitated. */
  readonly emulated: boolean
}

/** The drivers of this engine and the choice among them. Isolation is never lowered silently. */
export class DriverChoice {
  readonly all: readonly Driver[]
  /** Those that may be chosen without consent, the strongest first. */
  readonly #automatic: readonly Driver[]
  readonly #verdicts = new Map<string, Verdict>()

  constructor(drivers: { readonly all: readonly Driver[]; readonly automatic: readonly Driver[] }) {
    this.all = drivers.all
    this.#automatic = drivers.automatic
  }

  /** The driver of a record; `driver.unavailable` for one that this engine does not have. */
  get(id: string): Driver {
    const driver = this.find(id)
    if (driver !== null) return driver
    throw new PyroError('driver.unavailable', `this engine has no driver ${id}; nothing was changed`, {
      hint: `drivers: ${this.all.map((known) => known.id).join(', ')}`,
      data: { driver: id },
    })
  }

  find(id: string): Driver | null {
    return this.all.find((driver) => driver.id === id) ?? null
  }

  /** True while a driver is tried out: sandboxes exist then that no workspace has. */
  get isProbing(): boolean {
    return [...this.#verdicts.values()].some(({ ok }) => ok === null)
  }

  probe(driver: Driver): Promise<Probe> {
    const known = this.#verdicts.get(driver.id)
    if (known !== undefined && (known.ok !== false || Date.now() - known.atMs < RETRY_PROBE_MS)) return known.probe
    const verdict: Verdict = { probe: driver.probe(), atMs: Date.now(), ok: null }
    this.#verdicts.set(driver.id, verdict)
    void verdict.probe.then(({ ok }) => (verdict.ok = ok))
    return verdict.probe
  }

  /** What a create asked for: a driver by name, else the strongest isolation that works, emulates nothing and satisfies the caller. */
  async choose(
    wanted: { readonly driver: string; readonly isolation: Isolation | 'auto' },
    cx: PrepareContext,
  ): Promise<ChosenDriver> {
    if (wanted.driver !== 'auto') {
      const driver = await this.#named(wanted.driver, wanted.isolation, cx)
      return { driver, emulated: (await driver.accelerated(cx))?.ok === false }
    }
    const missing: string[] = []
    let fix: string | null = null
    for (const driver of this.#acceptable(wanted.isolation)) {
      const probe = await this.#unemulated(driver, cx)
      if (probe.ok) return { driver, emulated: false }
      missing.push(`${driver.id}: ${probe.detail}`)
      // The last is the one that the most hosts can run.
      fix = probe.fix ?? fix
    }
    throw unavailable(wanted.isolation, missing, fix)
  }

  /** Whether a driver works, and on the processor itself: one that does not is not tried any further. */
  async #unemulated(driver: Driver, cx: PrepareContext): Promise<Probe> {
    const accelerated = (await driver.accelerated(cx)) ?? null
    return accelerated?.ok === false ? accelerated : this.#tried(driver, cx)
  }

  /** For a caller, who is told what the first one waits for: with a machine it takes a while. */
  #tried(driver: Driver, { onProgress }: PrepareContext): Promise<Probe> {
    const probe = this.probe(driver)
    const isNew = this.#verdicts.get(driver.id)?.ok === null
    const step = `trying whether ${driver.id} works on this host`
    if (isNew) onProgress?.({ step, done: null, total: null, unit: null, detail: null })
    return probe
  }

  #acceptable(isolation: Isolation | 'auto'): readonly Driver[] {
    if (isolation === 'auto') return this.#automatic
    return this.all.filter((driver) => driver.isolation === isolation)
  }

  async #named(id: string, isolation: Isolation | 'auto', cx: PrepareContext): Promise<Driver> {
    const driver = this.get(id)
    if (isolation !== 'auto' && driver.isolation !== isolation) {
      throw new PyroError(
        'isolation.unavailable',
        `driver ${id} gives isolation ${driver.isolation}, not ${isolation}; nothing was changed`,
        { hint: 'leave one of --driver and --isolation out', data: { driver: id, isolation } },
      )
    }
    const probe = await this.#tried(driver, cx)
    if (probe.ok) return driver
    throw new PyroError('driver.unavailable', `driver ${id} does not work on this host: ${probe.detail}`, {
      hint: probe.fix ?? 'pyro doctor',
      data: { driver: id, detail: probe.detail },
    })
  }
}

const unavailable = (isolation: Isolation | 'auto', missing: readonly string[], fix: string | null): PyroError => {
  const wanted = isolation === 'auto' ? 'of at least gvisor' : isolation
  const why = missing.length === 0 ? 'this engine has no driver for it' : missing.join('; ')
  const ways = WAYS_OUT[isolation]
  return new PyroError(
    'isolation.unavailable',
    `isolation ${wanted} is not available on this host (${why}); nothing was changed`,
    { hint: fix === null ? ways : `${fix}; or ${ways}`, data: { isolation, missing: [...missing] } },
  )
}
