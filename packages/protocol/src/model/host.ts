import { z } from 'zod'

export const capability = z.object({
  id: z.string(),
  ok: z.boolean(),
  /** False for what is only nice to have: it does not make `doctor` fail. */
  required: z.boolean(),
  detail: z.string(),
  /** Exact command that provides it, null when nothing is missing. */
  fix: z.string().nullable(),
})
export type Capability = z.infer<typeof capability>

export const LEAK_KINDS = ['process', 'mount', 'loop-device', 'cgroup', 'socket', 'folder', 'volume', 'record'] as const
export const leak = z.object({
  kind: z.enum(LEAK_KINDS),
  id: z.string(),
  workspaceId: z.string().nullable(),
  detail: z.string(),
})
export type Leak = z.infer<typeof leak>

export const engineStatus = z.object({
  running: z.boolean(),
  pid: z.int().nullable(),
  version: z.string().nullable(),
  socket: z.string(),
  home: z.string(),
  workspaces: z.int().nullable(),
})
