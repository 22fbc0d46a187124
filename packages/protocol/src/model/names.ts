import { z } from 'zod'

/** Names a user gives: workspaces, snapshots. */
export const NAME_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/
export const WORKSPACE_ID_PATTERN = /^ws-[a-z2-7]{12}$/
export const COMMAND_ID_PATTERN = /^cmd-[a-z2-7]{12}$/
export const ENVIRONMENT_PATTERN = /^[a-z0-9][a-z0-9._/-]*(:[A-Za-z0-9._-]+)?$/

export type WorkspaceId = string & { readonly __brand: 'WorkspaceId' }
export type CommandId = string & { readonly __brand: 'CommandId' }

/** The snapshot every workspace has, and the word for its present disk. Neither can be taken as a name. */
export const BASELINE = 'baseline'
export const CURRENT = 'current'

export const name = z.string().regex(NAME_PATTERN, 'must match ' + NAME_PATTERN.source)
/** Name of a workspace: a word that means a disk in every other place would mislead. */
export const workspaceName = name.refine((text) => text !== BASELINE && text !== CURRENT, {
  error: `${BASELINE} and ${CURRENT} are reserved`,
})
/** Id or unique name of a workspace. */
export const workspaceRef = z.string().min(1).max(64).describe('id or name of the workspace')
export const commandId = z.string().regex(COMMAND_ID_PATTERN, 'must look like cmd-xxxxxxxxxxxx')
/** Name of a snapshot in a look-up: a named one or `baseline`. */
export const snapshotRef = name.describe('name of a snapshot, or baseline')
export const environmentName = z
  .string()
  .max(128)
  .regex(ENVIRONMENT_PATTERN, 'must match ' + ENVIRONMENT_PATTERN.source)

const BASE32 = 'abcdefghijklmnopqrstuvwxyz234567'

const randomBase32 = (): string =>
  Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => BASE32[byte & 31]).join('')

/** 60 random bits. */
export const newWorkspaceId = (): WorkspaceId => `ws-${randomBase32()}` as WorkspaceId
export const newCommandId = (): CommandId => `cmd-${randomBase32()}` as CommandId
