import { z } from 'zod'

/** Generation of this protocol. An agent of another one is refused. */
export const GUEST_PROTOCOL = 3

/** What `pyro-agent init` reads from its stdin. Written by the engine, not hostile. */
export const agentConfig = z.strictObject({
  protocol: z.literal(GUEST_PROTOCOL),
  sandboxId: z.string(),
  workspaceId: z.string(),
  generation: z.int(),
  /** 64 hex; proves to the engine which sandbox dialled. */
  token: z.string(),
  /** Path of the engine's socket as seen from inside. */
  socket: z.string(),
  hostname: z.string(),
  /** How commands get into the cgroup for user commands: descriptors opened by the monitor. */
  cgroup: z.discriminatedUnion('mode', [
    z.strictObject({ mode: z.literal('none') }),
    /** One `tasks` file per controller; a thread of the agent writes its tid to each. */
    z.strictObject({ mode: z.literal('v1'), tasksFds: z.array(z.int()) }),
    /** The directory of the user cgroup, for clone-into-cgroup. */
    z.strictObject({ mode: z.literal('v2'), directoryFd: z.int() }),
  ]),
  /** What `/v1/flush` does: `sync` where the guest has a kernel of its own. */
  flush: z.enum(['sync', 'none']),
  /** Commands that may run at one time. */
  maxCommands: z.int(),
})
export type AgentConfig = z.infer<typeof agentConfig>

/** Answers `/v1/clock`: how long the agent runs, by a clock that nobody sets. */
export const clockReading = z.strictObject({ uptimeUs: z.int().nonnegative() })

/** `/v1/set-clock`: what time it was at a reading, in microseconds since 1970. It stays true however late it arrives. */
export const setClock = z.strictObject({ uptimeUs: z.int().nonnegative(), unixUs: z.int().positive() })
/** Its answer: when that was done, and whether the clock jumped to that time, or goes there slowly. */
export const clockSet = z.strictObject({ uptimeUs: z.int().nonnegative(), jumped: z.boolean() })

/** Answers `/v1/thaw`: false when the disk was written to before, because the agent or somebody inside ended the freeze. */
export const thawed = z.strictObject({ held: z.boolean() })

/** The agent's answer to `PYRO <nonce>`. */
export const hello = z.strictObject({
  nonce: z.string().length(32),
  protocol: z.int(),
  agentVersion: z.string().max(64),
  /** New for every sandbox. */
  bootId: z.string().max(64),
  token: z.string().max(128),
  role: z.enum(['serve', 'egress']),
  sandboxId: z.string().max(64),
  /** As `/v1/clock` has it, when this was written. */
  uptimeUs: z.int().nonnegative(),
})
export type Hello = z.infer<typeof hello>

export const agentErrorKind = z.enum([
  'invalid',
  'exists',
  'not-found',
  'not-a-file',
  'outside-root',
  'text-mismatch',
  'limit',
  'no-space',
  'unsafe-entry',
  'too-large',
  'truncated',
  'failed',
])
export type AgentErrorKind = z.infer<typeof agentErrorKind>
export const agentError = z.object({
  kind: agentErrorKind,
  message: z.string().max(4096),
  /** Present where it helps: how often a text occurs, nearest lines, the refused entry. */
  data: z.record(z.string().max(64), z.unknown()).optional(),
})
export const agentErrorBody = z.object({ error: agentError })

export const agentStatus = z.strictObject({
  bootId: z.string().max(64),
  uptimeMs: z.int().nonnegative(),
  commands: z.int().nonnegative(),
  processes: z.int().nonnegative(),
})
