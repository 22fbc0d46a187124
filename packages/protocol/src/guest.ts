/** The messages between engine and agent; see docs/guest-protocol.md. Not part of the public contract. */
export * from './guest/link.ts'
export * from './guest/commands.ts'
export * from './guest/files.ts'
export * from './guest/offline.ts'
export * from './guest/monitor.ts'
export * from './guest/machine.ts'
