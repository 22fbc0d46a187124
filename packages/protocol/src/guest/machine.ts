import { z } from 'zod'
import { agentConfig } from './link.ts'
import { filesystemLabel } from '../model/common.ts'

/** Bytes of the config disk of a microVM: one document, then zeros. */
export const CONFIG_DISK_BYTES = 64 * 1024

/** An ext4 filesystem; its label says whose it is. */
export const machineFilesystem = z.strictObject({ uuid: z.uuid(), label: filesystemLabel })

/** What the agent of a microVM reads from its config disk (`pyro-agent machine`), when the engine calls for the first time. */
export const machineConfig = z.strictObject({
  agent: agentConfig,
  /** base64 of at least 32 bytes, a multiple of 4, that no other machine has. */
  entropy: z.base64(),
  /** For user commands: bytes of memory, and processes with threads. */
  limits: z.strictObject({ memoryBytes: z.int().positive(), pidsMax: z.int().positive() }),
  /** What the first disk has to hold, which becomes the root; null: the machine is an inspector. */
  root: machineFilesystem.nullable(),
  /** What the disks of an inspector have to hold, in their order. It mounts them read-only as `/disks/0` and so on. */
  inspect: z.array(machineFilesystem).max(3),
})
export type MachineConfig = z.infer<typeof machineConfig>

/** `vmm.json` in the bundle: what `pyro-agent vmm run` starts. Written by the engine, not hostile; unknown fields are refused. */
export const vmmSpec = z.strictObject({
  /** Begins with a path inside. Descriptor 4 and those that follow are `files` and then `listen`. */
  argv: z.array(z.string()).min(1),
  /** User and group of the host that the program runs as. */
  id: z.int().positive(),
  /** Groups of the host that it is in beside its own. */
  groups: z.array(z.int().positive()).max(4),
  files: z.array(z.strictObject({ path: z.string(), access: z.enum(['read', 'write', 'both']), direct: z.boolean() })).max(64),
  /** Path of a unix socket that is made for the program and handed on; empty: none. */
  listen: z.string(),
  /** Files and folders of the host that are shown inside. `own-…`: what belongs to root is shown as the program's own. */
  mounts: z
    .array(
      z.strictObject({
        source: z.string(),
        target: z.string(),
        access: z.enum(['read', 'write', 'device', 'own-read', 'own-write']),
      }),
    )
    .max(512),
})
export type VmmSpec = z.infer<typeof vmmSpec>
