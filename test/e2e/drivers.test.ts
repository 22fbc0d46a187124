import { agentPath, driverPlace, driverSuite } from '@pyro/driver-testkit'
import { availableDrivers } from '../support/every-driver.ts'

for (const driver of availableDrivers()) {
  driverSuite({ name: driver, place: () => driverPlace({ agentPath: agentPath(), driver }) })
}
