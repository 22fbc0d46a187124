import { copyFileSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { ENVIRONMENT_CACHE } from '../support/world.ts'

/** What machines need of the cache of all tests, so that nothing is fetched twice; kernels and templates are made in this one. */
export const copyPackages = (cache: string): void => {
  mkdirSync(ENVIRONMENT_CACHE, { recursive: true })
  for (const name of readdirSync(ENVIRONMENT_CACHE).filter((file) => /^(?:debian_12-base|linux)-/.test(file)))
    copyFileSync(join(ENVIRONMENT_CACHE, name), join(cache, name))
}
