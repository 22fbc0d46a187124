export { agentPath } from './agent-path.ts'
export { diskStoreSuite, type DiskStorePlace, type DiskStoreSubject } from './disk-store-suite.ts'
export { freeBytes, ID_BASE, temporaryPlace, type HomePlace, type PlaceOptions } from './disk-store-places.ts'
export { DRIVERS, REQUIREMENTS, type Requirement, type RequirementId, type TestedDriver } from './requirements.ts'
