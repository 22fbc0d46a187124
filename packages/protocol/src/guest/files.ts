import { z } from 'zod'

export const readFile = z.strictObject({
  /** Absolute; the path must stay below it, also through symlinks. */
  root: z.string(),
  path: z.string(),
  /** By lines (from 1) … */
  startLine: z.int().positive().nullable(),
  maxLines: z.int().positive().nullable(),
  /** … or by bytes. */
  offset: z.int().nonnegative(),
  /** Bound of the answer in both cases. */
  maxBytes: z.int().positive(),
})
export const readFileResult = z.strictObject({
  sizeBytes: z.int().nonnegative(),
  /** Permission bits, octal. */
  mode: z.string().max(8),
  dataBase64: z.string(),
  offset: z.int().nonnegative(),
  startLine: z.int().nullable(),
  lines: z.int().nullable(),
  totalLines: z.int().nullable(),
  more: z.boolean(),
})

export const writeFile = z.strictObject({
  root: z.string(),
  path: z.string(),
  dataBase64: z.string(),
  /** Octal permission bits; null keeps those of an existing file, else 0644. */
  mode: z.string().nullable(),
  oldTextBase64: z.string().nullable(),
  replaceAll: z.boolean(),
})
export const writeFileResult = z.strictObject({
  created: z.boolean(),
  sizeBytes: z.int().nonnegative(),
  mode: z.string().max(8),
  replaced: z.int().nullable(),
})

/** Bounds of an archive that goes in. */
export const archiveLimits = z.strictObject({ entries: z.int(), bytes: z.int(), pathBytes: z.int() })

export const extractInput = z.strictObject({
  /** Absolute folder inside; made when missing. */
  dest: z.string(),
  delete: z.boolean(),
  limits: archiveLimits,
})
export const extractResult = z.strictObject({
  files: z.int().nonnegative(),
  bytes: z.int().nonnegative(),
  deleted: z.int().nonnegative(),
})
/** Progress of a long one-shot or extract. */
export const guestProgress = z.strictObject({
  type: z.literal('progress'),
  files: z.int().nonnegative(),
  bytes: z.int().nonnegative(),
})
