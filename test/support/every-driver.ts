import { DRIVERS, REQUIREMENTS, type Requirement, type RequirementId, type TestedDriver } from '@pyro/driver-testkit'
import { describe, expect, inject, test } from 'vitest'

/** Which drivers this host runs, decided once for the whole run by trying each. */
export const availableDrivers = (): readonly TestedDriver[] => inject('drivers')

/** Emulated, a case may come too late for its deadlines when the host is busy: it is tried once more. */
const RETRIES: Partial<Record<TestedDriver, number>> = { qemu: 1 }

/**
 * One requirement, one case, every driver. Where a driver is exempt the test says so with the reason of the manifest; where it does
 * not run on this host the driver was named when the run began, and `REQUIRE_DRIVERS` makes that a failure.
 */
export const onEveryDriver = (
  id: RequirementId,
  body: (driver: TestedDriver) => Promise<void>,
  options: { readonly timeoutMs?: number } = {},
): void => {
  const requirement: Requirement = REQUIREMENTS[id]
  describe(requirement.text, () => {
    for (const driver of DRIVERS) {
      const reason = requirement.exempt?.[driver]
      if (reason !== undefined) {
        test(`${driver} is exempt: ${reason}`, () => expect(reason).not.toBe(''))
      } else if (availableDrivers().includes(driver)) {
        // oxlint-disable-next-line vitest/expect-expect -- the body asserts
        test(`on ${driver}`, { timeout: options.timeoutMs ?? 180_000, retry: RETRIES[driver] ?? 0 }, () => body(driver))
      }
    }
  })
}
