import { join } from 'node:path'
import type { Progress } from '@pyro/protocol'
import type { EngineConfig } from '../lib/config.ts'
import { STANDARD_PATH } from '../process/find-program.ts'
import { BuiltArchives } from './built-archives.ts'
import type { Recipe } from './catalog.ts'

export interface PackageFilesOptions {
  /** Of the caller, removed by it. */
  readonly folder: string
  readonly signal: AbortSignal
  readonly onProgress: (progress: Progress) => void
}

/** Gets files out of packages of the host's Debian mirror, as a tar whose path it gives. Nothing is installed. */
export const packageFiles = (
  config: EngineConfig,
): ((wanted: Recipe, options: PackageFilesOptions) => Promise<string>) => {
  const archives = new BuiltArchives({
    packageFolder: join(config.home, 'cache', 'packages'),
    sharedFolder: config.environmentCache,
    mirrorOverride: config.debianMirror,
    programPath: STANDARD_PATH,
  })
  return async (wanted, options) => (await archives.obtain(wanted, options)).path
}
