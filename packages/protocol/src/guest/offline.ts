import { z } from 'zod'
import { filesystemLabel } from '../model/common.ts'
import { archiveLimits } from './files.ts'

/** The id range of the mapped user namespace: inside id 0 is `base` outside. */
export const idMapping = z.strictObject({ base: z.int(), count: z.int() })
export type IdMapping = z.infer<typeof idMapping>

/** What distinguishes one workspace from another of the same environment, written to its disk once. */
export const workspaceIdentity = z.strictObject({ hostname: z.string(), machineId: z.string() })
export type WorkspaceIdentity = z.infer<typeof workspaceIdentity>

/** `populate`: identity and seed of a new workspace, written into its volume before any sandbox exists. */
export const populateInput = z.strictObject({
  /** Host path of the writable tree. */
  volume: z.string(),
  mapping: idMapping,
  identity: workspaceIdentity.nullable(),
  /** True: a tar (plain, gzip or zstd, told by its first bytes) follows in data frames until an empty one. */
  seed: z.boolean(),
  limits: archiveLimits,
})
export const populateResult = z.strictObject({ files: z.int().nonnegative(), bytes: z.int().nonnegative() })

/** `unpack`: a root filesystem or an OCI image (layout as tar, or docker-save) into an empty volume. The tar is stdin, a seekable file. */
export const unpackInput = z.strictObject({
  volume: z.string(),
  mapping: idMapping,
  /** Which image of a layout that holds several. */
  image: z.string().nullable(),
  /** `linux/amd64`. */
  platform: z.string(),
  limits: archiveLimits,
})
export const unpackResult = z.strictObject({
  kind: z.enum(['rootfs', 'oci']),
  files: z.int().nonnegative(),
  bytes: z.int().nonnegative(),
  /** Device entries, which a user namespace cannot make; sandboxes mount their own. */
  skippedDevices: z.int().nonnegative(),
  /** From the image config; empty for a root filesystem. */
  env: z.array(z.string().max(131_072)).max(4096),
  user: z.string().max(256),
  workingDir: z.string().max(4096),
  /** From /var/lib/dpkg/status (or apk), where there is one. */
  packages: z.array(z.strictObject({ name: z.string().max(256), version: z.string().max(256) })).max(100_000),
})

/** Whose filesystem a file has to hold. */
export const imageIdentity = z.strictObject({ uuid: z.uuid(), label: filesystemLabel })

/** `inspect`: looks at frozen volumes; never writes. */
export const inspectInput = z.discriminatedUnion('op', [
  z.strictObject({
    op: z.literal('diff'),
    mapping: idMapping,
    /** Host paths of the trees, or of the images. */
    from: z.string(),
    to: z.string(),
    /** Where .gitignore files are read: the baseline volume. */
    ignoreFrom: z.string(),
    root: z.string(),
    paths: z.array(z.string()),
    ignored: z.boolean(),
    patch: z.boolean(),
    /** The seed was a folder: without a .git in it the patch is for git apply outside of a repository, which reads no .gitattributes. */
    plainFolder: z.boolean(),
    patchLimitBytes: z.int(),
    binaryLimitBytes: z.int(),
    /** Set: all three are files with an ext4 filesystem, which has to be this one and is read without a kernel. */
    image: imageIdentity.nullable(),
  }),
  z.strictObject({
    op: z.literal('export'),
    mapping: idMapping,
    /** Host path of the tree, or of the image. */
    volume: z.string(),
    path: z.string(),
    /** Set: the volume is a file with an ext4 filesystem, which has to be this one and is read without a kernel. */
    image: imageIdentity.nullable(),
  }),
])
/**
 * Answers of `inspect`.
 * diff: `event` frames `{type:"entries",entries:[inspectEntry…]}` (sorted by path bytes, ≤ 1000 each), the patch in `data` frames, then `result` diffSummary; for images of which one has to be shown to a kernel `result` imageUnreadable, after nothing but signs of life.
 * export: `data` frames (a tar whose first entry is the file or folder itself, owners unshifted), then `result` exportSummary; for an image that has to be shown to a kernel `result` imageUnreadable alone.
 */
export const inspectFileType = z.enum(['file', 'directory', 'symlink', 'fifo', 'socket', 'block', 'char'])
export const inspectEntry = z.strictObject({
  /** Raw bytes, base64. */
  pathBase64: z.string(),
  status: z.enum(['added', 'modified', 'deleted', 'typeChanged']),
  type: inspectFileType,
  oldType: inspectFileType.nullable(),
  /** As git and stat print it, octal with type bits: `100644`. */
  mode: z.string().max(8).nullable(),
  oldMode: z.string().max(8).nullable(),
  uid: z.int().nullable(),
  gid: z.int().nullable(),
  sizeBytes: z.int().nonnegative().nullable(),
  binary: z.boolean(),
  ignored: z.boolean(),
  inPatch: z.boolean(),
  additions: z.int().nullable(),
  deletions: z.int().nullable(),
  linkTargetBase64: z.string().nullable(),
})
export const inspectEntries = z.strictObject({ type: z.literal('entries'), entries: z.array(inspectEntry).max(1000) })
export const diffSummary = z.strictObject({
  /** Changed paths in all, ignored ones included; 0 means equal. */
  changed: z.int().nonnegative(),
  ignored: z.int().nonnegative(),
  patchBytes: z.int().nonnegative(),
  patchTruncated: z.boolean(),
})
export const exportSummary = z.strictObject({
  type: inspectFileType,
  files: z.int().nonnegative(),
  bytes: z.int().nonnegative(),
  gitHooks: z.boolean(),
  /** Sockets and devices that a tar for a host leaves out. */
  skipped: z.int().nonnegative(),
})
/** It is damaged, was cut off from its machine, or has something that only a kernel knows. */
export const imageUnreadable = z.strictObject({ unreadable: z.string().max(1024) })

/** What `pyro-agent image INPUT` is told, as JSON. */
export const imageInput = z.strictObject({
  tree: z.string(),
  file: z.string(),
  bytes: z.int().positive(),
  uuid: z.uuid(),
  /** Says whose disk it is; null: nobody's yet. */
  label: filesystemLabel.nullable(),
  mapping: idMapping,
})
export type ImageInput = z.infer<typeof imageInput>

/** What `pyro-agent imprint INPUT` is told, as JSON. The file is a fresh copy of the image of an environment. */
export const imprintInput = z.strictObject({
  file: z.string(),
  label: filesystemLabel,
  identity: workspaceIdentity,
  mapping: idMapping,
})
export type ImprintInput = z.infer<typeof imprintInput>
