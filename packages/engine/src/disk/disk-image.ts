import { createHash } from 'node:crypto'
import { isPyroError, PyroError } from '@pyro/protocol'
import type { ImageInput, ImprintInput } from '@pyro/protocol/guest'
import { runProgram } from '../process/program.ts'
import { ID_COUNT } from './disk-store.ts'

const TIMEOUT_MS = 10 * 60_000
const IMPRINT_TIMEOUT_MS = 60_000
/** Of a filesystem: ext4 has room for 16, debugfs(8) takes one less. */
const LABEL_CHARACTERS = 15

export interface DiskImageHost {
  readonly agentPath: string
  /** First id of all trees. */
  readonly idBase: number
}

export interface DiskImageRequest {
  readonly tree: string
  /** Must not exist. */
  readonly file: string
  /** Of the disk; what is not used stays a hole. A multiple of 4096. */
  readonly bytes: number
  /** Of the filesystem. The same tree, size, UUID and label give the same bytes. */
  readonly uuid: string
  /** Says whose disk it is; null: nobody's yet. */
  readonly label: string | null
}

/** Makes the fresh copy of an environment's disk image that of a workspace: no kernel has written to it yet. */
export const imprintDisk = async (
  { agentPath, idBase }: DiskImageHost,
  disk: Omit<ImprintInput, 'mapping'>,
  signal: AbortSignal,
): Promise<void> => {
  const input: ImprintInput = { ...disk, mapping: { base: idBase, count: ID_COUNT } }
  const { exitCode, stderr } = await runProgram(agentPath, ['imprint', JSON.stringify(input)], {
    timeoutMs: IMPRINT_TIMEOUT_MS,
    signal,
  })
  signal.throwIfAborted()
  if (exitCode === 0) return
  const known = toolFailure(stderr, 'the disk')
  if (known !== null) throw known
  throw new PyroError('workspace.start-failed', `the disk image of the environment is damaged: ${lastLines(stderr)}`, {
    hint: 'pyro env remove NAME, and pull or import it again',
    data: { reason: 'workspace.start-failed' },
  })
}

/** Tells the disks of workspaces apart that began on the same environment. Ids are random at their end. */
export const labelOf = (workspaceId: string): string => workspaceId.slice(-LABEL_CHARACTERS)

const notMade = (said: string): PyroError =>
  new PyroError('internal', `the disk image was not made: ${lastLines(said)}`)

const tookTooLong = (cause: unknown): PyroError =>
  new PyroError('workspace.start-failed', `the disk image was not made within ${TIMEOUT_MS / 60_000} minutes`, {
    hint: 'mke2fs takes long where one folder has very many files: --driver runsc or runc needs no image',
    data: { reason: 'workspace.start-failed' },
    cause,
  })

/** What has nothing to do with the image; null: it may have. */
const toolFailure = (said: string, disk: string): PyroError | null => {
  if (/executable file not found/.test(said)) {
    return new PyroError('host.missing-tool', `disk images need mke2fs and debugfs: ${lastLines(said)}`, {
      hint: 'apt-get install -y e2fsprogs',
    })
  }
  if (!/no space|Could not allocate/i.test(said)) return null
  return new PyroError('disk.full', `${disk} is too small for its environment`, {
    hint: 'ask for more with --disk-mib, or make room on the host',
    data: { said: lastLines(said) },
  })
}

const lastLines = (text: string): string => text.trim().split('\n').slice(-3).join('; ')

/** Makes a disk with an ext4 filesystem that holds a tree. `disk.full` when the tree does not fit. */
export const makeDiskImage = async (
  { agentPath, idBase }: DiskImageHost,
  request: DiskImageRequest,
  signal?: AbortSignal,
): Promise<void> => {
  const input: ImageInput = { ...request, mapping: { base: idBase, count: ID_COUNT } }
  const { exitCode, stderr } = await runProgram(agentPath, ['image', JSON.stringify(input)], {
    timeoutMs: TIMEOUT_MS,
    ...(signal === undefined ? {} : { signal }),
  }).catch((error: unknown) => {
    throw isPyroError(error) && error.code === 'request.timed-out' ? tookTooLong(error) : error
  })
  signal?.throwIfAborted()
  if (exitCode === 0) return
  throw toolFailure(stderr, `a disk of ${request.bytes} bytes`) ?? notMade(stderr)
}

/** The UUID of the filesystem that the disks of an environment hold: the same content, the same UUID (version 8 of RFC 9562). */
export const filesystemOf = (digest: string): string => {
  const hex = createHash('sha256').update(`filesystem of ${digest}`).digest('hex')
  return hex.replace(/^(.{8})(.{4}).(.{3}).(.{3})(.{12}).*$/, '$1-$2-8$3-8$4-$5')
}
