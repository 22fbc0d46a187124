import { z } from 'zod'
import { bytes } from './common.ts'

export const fileType = z.enum(['file', 'directory', 'symlink', 'fifo', 'socket', 'block', 'char'])

export const diffEntry = z.object({
  /** Relative to the root of the diff; U+FFFD for what is not UTF-8, then `pathBase64` has the bytes. */
  path: z.string(),
  pathBase64: z.string().optional(),
  status: z.enum(['added', 'modified', 'deleted', 'typeChanged']),
  type: fileType,
  oldType: fileType.nullable(),
  /** Permission bits with type, octal, e.g. `100644`. */
  mode: z.string().nullable(),
  oldMode: z.string().nullable(),
  uid: z.int().nullable(),
  gid: z.int().nullable(),
  sizeBytes: bytes.nullable(),
  binary: z.boolean(),
  ignored: z.boolean(),
  inPatch: z.boolean(),
  additions: z.int().nullable(),
  deletions: z.int().nullable(),
  /** Of a symlink; as `path`, with `linkTargetBase64`. */
  linkTarget: z.string().nullable(),
  linkTargetBase64: z.string().optional(),
})
export type DiffEntry = z.infer<typeof diffEntry>

export const diffResult = z.object({
  workspaceId: z.string(),
  from: z.string(),
  to: z.string(),
  root: z.string(),
  /** True when nothing differs, ignored paths included. */
  clean: z.boolean(),
  totals: z.object({
    added: z.int(),
    modified: z.int(),
    deleted: z.int(),
    typeChanged: z.int(),
    ignored: z.int(),
    notInPatch: z.int(),
    additions: z.int(),
    deletions: z.int(),
  }),
  entries: z.array(diffEntry),
  /** UTF-8 text of the patch, null when not asked for; the bytes travel beside it in data frames. */
  patch: z.string().nullable(),
  patchBase64: z.string().optional(),
  patchBytes: bytes,
  patchTruncated: z.boolean(),
  /** Changed paths below `.git/hooks` and `.git/config`: worth a look before they reach a host. */
  gitSensitive: z.array(z.string()),
  /** Set when the workspace was reset to a named snapshot after the baseline: the diff spans both. */
  note: z.string().nullable(),
})
export type DiffResult = z.infer<typeof diffResult>
