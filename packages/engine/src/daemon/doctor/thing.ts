import { WORKSPACE_ID_PATTERN, type Leak } from '@pyro/protocol'
import type { DiskReleaser } from '../../disk/disk-audit.ts'

/** Who would have to exist for a thing to have an owner. */
export type Claim =
  | { readonly of: 'sandbox' | 'volume' | 'workspace' | 'folder'; readonly id: string }
  /** Of a workspace that exists; else the folder of all its logs speaks for them. */
  | { readonly of: 'command'; readonly id: string; readonly workspaceId: string }
  /** Anything that flushes a volume. */
  | { readonly of: 'flush' }
  | { readonly of: 'nobody' }

/** Something that exists on this host, or is recorded, in the name of this home. */
export interface Thing {
  readonly leak: Leak
  readonly claim: Claim
  /** Null where it is not certain that nobody needs it: then it is reported and kept. */
  readonly release: ((disk: DiskReleaser) => Promise<void>) | null
}

export const NOBODY: Claim = { of: 'nobody' }

export const keyOf = ({ leak }: Thing): string => `${leak.kind} ${leak.id}`

/** `ws-….g2`, `ws-…-g2` and the workspace itself. */
export const workspaceIdIn = (name: string | null): string | null => {
  const id = name?.slice(0, 'ws-'.length + 12) ?? ''
  return WORKSPACE_ID_PATTERN.test(id) ? id : null
}
