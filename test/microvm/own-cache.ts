import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ENVIRONMENT_CACHE, World } from '../support/world.ts'

/** A world whose kernels and templates are made in a cache of its own; packages come from the one of all tests. */
export const openOwnCache = async (): Promise<{ readonly cache: string; readonly world: World } & AsyncDisposable> => {
  const cache = mkdtempSync(join(tmpdir(), 'pyro-cache-'))
  mkdirSync(ENVIRONMENT_CACHE, { recursive: true })
  for (const name of readdirSync(ENVIRONMENT_CACHE).filter((file) => /^(?:debian_12-base|linux)-/.test(file)))
    copyFileSync(join(ENVIRONMENT_CACHE, name), join(cache, name))
  const world = await World.open({ env: { PYRO_ENVIRONMENT_CACHE: cache } })
  return {
    cache,
    world,
    async [Symbol.asyncDispose]() {
      await world[Symbol.asyncDispose]()
      rmSync(cache, { recursive: true, force: true })
    },
  }
}
