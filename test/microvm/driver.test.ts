import { agentPath, driverPlace, driverSuite } from '@pyro/driver-testkit'

driverSuite({ name: 'qemu', place: () => driverPlace({ agentPath: agentPath(), driver: 'qemu' }) })
