import { open } from 'node:fs/promises'
import { unpackResult } from '@pyro/protocol/guest'
import type { z } from 'zod'
import { ID_COUNT } from '../disk/disk-store.ts'
import { progressTo, type ArchiveLimits, type OfflineCallOptions } from './offline-agent.ts'
import { runOneShot } from './one-shot.ts'
import { startRole, type RoleHost } from './roles.ts'

export interface UnpackRequest {
  /** Host path of the empty writable tree. */
  readonly volume: string
  /** Host path of our own copy of the archive, uncompressed. */
  readonly archivePath: string
  readonly image: string | null
  /** `linux/amd64`. */
  readonly platform: string
  readonly limits: ArchiveLimits
}

export type Unpacked = z.infer<typeof unpackResult>

/** Unpacks an environment into an empty tree. After a failure the caller drops the volume. */
export const unpackArchive = async (
  { agentPath, idBase }: RoleHost,
  { archivePath, ...request }: UnpackRequest,
  options: OfflineCallOptions = {},
): Promise<Unpacked> => {
  const input = { ...request, mapping: { base: idBase, count: ID_COUNT } }
  await using archive = await open(archivePath, 'r')
  const { signal } = options
  return await runOneShot(startRole(agentPath, ['unpack', JSON.stringify(input)], { stdin: archive.fd, signal }), {
    role: 'unpack',
    feed: null,
    result: unpackResult,
    onEvent: progressTo(options),
    errorCodes: { invalid: 'environment.invalid', 'not-found': 'environment.invalid' },
    signal,
  })
}
