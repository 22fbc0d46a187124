/** What the conformance suites of the seams work with. The engine itself is a program: `main.ts`. */
export { openDiskStore, type DiskConfig } from './disk/open-disk-store.ts'
export { DISK_FILE, type DiskStore, type Volume, type VolumeId } from './disk/disk-store.ts'
export { labelOf, makeDiskImage } from './disk/disk-image.ts'
export { packageFiles } from './environment/package-files.ts'
export { configFrom } from './lib/config.ts'
export { createLog } from './lib/log.ts'
export { createDrivers } from './drivers/index.ts'
export type { Driver, Sandbox, SandboxRecord, SandboxSpec } from './driver/driver.ts'
