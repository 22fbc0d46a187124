import { z } from 'zod'
import { bytes, time } from './common.ts'

export const environmentSummary = z.object({
  name: z.string(),
  description: z.string(),
  /** True when the catalog can pull it, false for an imported one. */
  catalog: z.boolean(),
  installed: z.boolean(),
  digest: z.string().nullable(),
  sizeBytes: bytes.nullable(),
})

export const environmentRecord = environmentSummary.extend({
  createdAt: time.nullable(),
  source: z.string().nullable(),
  platform: z.string(),
  packages: z.array(z.object({ name: z.string(), version: z.string() })),
  env: z.record(z.string(), z.string()),
  user: z.string(),
  workingDir: z.string(),
  /** Workspaces that stand on it. */
  usedBy: z.array(z.string()),
})
export type EnvironmentRecord = z.infer<typeof environmentRecord>

/** What `inspect` says: the environment, and the kernel that it gets in a microVM. */
export const environmentDetails = environmentRecord.extend({
  /** Release and digest of the kernel image; null: none is here that can be used, and the first microVM brings it. */
  microvmKernel: z.object({ release: z.string(), sha256: z.string() }).nullable(),
})
export type EnvironmentDetails = z.infer<typeof environmentDetails>

export const pruneResult = z.object({
  removed: z.array(z.object({ kind: z.enum(['environment', 'cache', 'superseded']), name: z.string(), bytes: bytes })),
  freedBytes: bytes,
})
