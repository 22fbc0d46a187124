import { gitTopLevel, type Seed } from '@pyro/sdk'
import { PyroError } from '@pyro/protocol'
import type { HostPaths } from './host/host-paths.ts'

/** Words that name no path. */
export const PROJECT = 'project'
export const NONE = 'none'

/** The host files that `project`, `none` or a path in the project stand for. */
export const seedOf = async (word: string | undefined, host: HostPaths): Promise<Seed | undefined> => {
  if (word === NONE || (word === undefined && host.project === null)) return undefined
  if (word === undefined || word === PROJECT) {
    if (host.project === null) {
      throw new PyroError('host-path.not-allowed', 'this server has no project to seed from; nothing was changed', {
        hint: 'use seed "none", or start the server with --project-path PATH',
      })
    }
    return gitTopLevel(host.project) !== null ? { git: host.project } : { path: host.project }
  }
  await using target = await host.readable(word)
  return { path: target.path }
}
