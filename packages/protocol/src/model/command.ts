import { z } from 'zod'
import { bytes, durationMs, time } from './common.ts'

/** A string with spaces or shell characters runs as `sh -lc`; an array is exact argv. */
export const command = z.union([z.string().min(1), z.array(z.string()).min(1)])
export type CommandInput = z.infer<typeof command>

export const limitHit = z.enum(['memory', 'pids', 'disk'])
export type LimitHit = z.infer<typeof limitHit>

export const commandState = z.enum(['running', 'exited', 'interrupted'])

/** One command of a workspace, with head and tail of its output (64 + 192 KiB a stream). */
export const commandResult = z.object({
  workspaceId: z.string(),
  commandId: z.string(),
  /** Number of the command since the last reset, from 1. */
  sequence: z.int(),
  command: z.union([z.string(), z.array(z.string())]),
  cwd: z.string(),
  state: commandState,
  startedAt: time,
  /** 128+N for a signal, 124 for a timeout, 126/127 cannot run / not found; null while running. */
  exitCode: z.int().nullable(),
  signal: z.string().nullable(),
  timedOut: z.boolean(),
  limit: limitHit.nullable(),
  /** Why a command ended with its sandbox: `reset`, `stop`, `delete`, or what killed the sandbox. */
  interruptedBy: z.string().nullable(),
  durationMs: durationMs,
  stdout: z.string(),
  stderr: z.string(),
  /** Present only when the text is not UTF-8. */
  stdoutBase64: z.string().optional(),
  stderrBase64: z.string().optional(),
  stdoutBytes: bytes,
  stderrBytes: bytes,
  /** True when the inline texts leave something out; the log has up to 64 MiB. */
  truncated: z.boolean(),
})
export type CommandResult = z.infer<typeof commandResult>

/** First event of exec and run: the command exists and can be found again by this id. */
export const commandStarted = z.object({ type: z.literal('started'), workspaceId: z.string(), commandId: z.string() })
/** All of standard input is with the command: nothing of it is lost with an engine that ends now. */
export const stdinTaken = z.object({ type: z.literal('stdin-taken') })
/** Output left out of a log (beyond what is kept), in bytes. */
export const outputGap = z.object({ type: z.literal('gap'), bytes: bytes })
