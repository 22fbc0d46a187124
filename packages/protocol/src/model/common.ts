import { z } from 'zod'

/** RFC 3339, UTC, milliseconds. */
export const time = z.iso.datetime({ precision: 3 })
/** Whole bytes. */
export const bytes = z.int().nonnegative()
/** Whole milliseconds. */
export const durationMs = z.int().nonnegative()
/** A hundred years: beyond it the date of an expiry and a 64-bit count of nanoseconds would run out. */
export const LONGEST_SPAN_MS = 100 * 365 * 24 * 60 * 60 * 1000
/** A span of time that a caller asks for, in whole milliseconds. */
export const spanMs = z.int().nonnegative().max(LONGEST_SPAN_MS)
/** The same, and some time at all. */
export const someSpanMs = spanMs.positive()
/** Environment variables: names without `=` or NUL, values without NUL. */
export const envVars = z.record(
  z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'is not a variable name'),
  z.string().refine((v) => !v.includes('\0'), 'must not contain NUL'),
)
export const labels = z.record(z.string().min(1).max(256), z.string().max(256))
/** Absolute or relative path inside a workspace, without NUL. */
export const guestPath = z
  .string()
  .min(1)
  .max(4096)
  .refine((v) => !v.includes('\0'), 'must not contain NUL')

/** The JSON form of an error on every surface. */
export const errorBody = z.object({
  code: z.string(),
  message: z.string(),
  hint: z.string().nullable(),
  data: z.record(z.string(), z.unknown()).nullable(),
})

/** Why a workspace is not running, or does not go on, although nobody stopped it. */
export const failure = z.object({ code: z.string(), message: z.string(), hint: z.string().nullable() })
export type Failure = z.infer<typeof failure>

/** Of a filesystem: what ext4 holds and debugfs(8) takes. */
export const filesystemLabel = z.string().min(1).max(15)

/** Something going on that takes longer than a moment. */
export const progress = z.object({
  /** What is being done, e.g. `pulling debian:12`. */
  step: z.string(),
  /** Units done so far, and in all where known. */
  done: z.number().nullable(),
  total: z.number().nullable(),
  unit: z.enum(['bytes', 'files', 'percent']).nullable(),
  detail: z.string().nullable(),
})
export type Progress = z.infer<typeof progress>
