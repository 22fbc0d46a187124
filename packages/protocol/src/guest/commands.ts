import { z } from 'zod'
import { someSpanMs } from '../model/common.ts'

export const startCommand = z.strictObject({
  /** Exact argv, or a text for `sh -lc`. Exactly one of the two. */
  argv: z.array(z.string()).min(1).optional(),
  shell: z.string().optional(),
  cwd: z.string(),
  /** Name or number; null: root. HOME, USER, LOGNAME and the groups follow from /etc/passwd and /etc/group inside. */
  user: z.string().nullable(),
  /** The whole environment but HOME, USER and LOGNAME, as `NAME=value`; those are set unless named here. */
  env: z.array(z.string()),
  timeoutMs: someSpanMs.nullable(),
  /** False: stdin is /dev/null. */
  stdin: z.boolean(),
  /** How long the news that it runs may wait for what follows, to go out together with it. */
  holdMs: z.int().min(0).max(1000),
})
export type StartCommand = z.infer<typeof startCommand>

export const commandStartError = z.strictObject({
  kind: z.enum(['not-found', 'cannot-run', 'limit-pids', 'bad-cwd', 'bad-user']),
  message: z.string().max(4096),
})

export const commandExit = z.strictObject({
  /** Null when a signal ended it or it never started. */
  exitCode: z.int().min(0).max(255).nullable(),
  /** Name without SIG, e.g. `KILL`. */
  signal: z.string().max(16).nullable(),
  timedOut: z.boolean(),
  startError: commandStartError.nullable(),
  durationMs: z.int().nonnegative(),
  stdoutBytes: z.int().nonnegative(),
  stderrBytes: z.int().nonnegative(),
  /**
   * While this command ran, or when it should start, a fork was refused: to the agent, or where the agent counts to anybody. This and what
   * follows is only looked for when the command failed.
   */
  pidsLimited: z.boolean(),
  /** While this command ran, a process was killed for lack of memory. Only where the agent counts: on a kernel of its own. */
  memoryLimited: z.boolean(),
  /** When it ended the disk was full. Only where the agent knows: of a disk image. */
  diskLimited: z.boolean(),
})
export type CommandExit = z.infer<typeof commandExit>

export const commandEvent = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('started'), pid: z.int().positive() }),
  z.strictObject({ type: z.literal('attached'), cursor: z.int().nonnegative() }),
])

export const attachCommand = z.strictObject({ cursor: z.int().nonnegative() })
export const signalCommand = z.strictObject({
  signal: z.string().max(16),
  /** After this time what is left of the tree is killed; null: never. */
  graceMs: z.int().nonnegative().nullable(),
})
export const releaseCommands = z.strictObject({ ids: z.array(z.string().max(64)) })
export const commandListing = z.strictObject({
  commands: z
    .array(
      z.strictObject({
        id: z.string().max(64),
        running: z.boolean(),
        exit: commandExit.nullable(),
        /** Bytes of output so far. */
        cursor: z.int().nonnegative(),
      }),
    )
    .max(100_000),
})
