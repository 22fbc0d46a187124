import { isPyroError } from '@pyro/protocol'
import type { KernelVersion } from '../../driver/driver.ts'
import type { DriverChoice } from '../../workspace/driver-choice.ts'
import { progressTo, type Handlers } from '../handler.ts'

export const environmentHandlers = {
  'environment.list': async ({ engine }) => ({ environments: await engine.services.environments.list() }),

  'environment.pull': async ({ engine, input, reply, signal }) => {
    const startedAt = performance.now()
    const onProgress = progressTo(reply)
    const record = await engine.services.environments.pull(input.environment, { signal, onProgress })
    return { ...record, durationMs: Math.round(performance.now() - startedAt) }
  },

  'environment.import': async ({ engine, input, upload, reply, signal }) => {
    const startedAt = performance.now()
    const request = { ...input, image: input.image ?? null }
    const onProgress = progressTo(reply)
    const record = await engine.services.environments.import(request, upload.data, { signal, onProgress })
    return { ...record, durationMs: Math.round(performance.now() - startedAt) }
  },

  'environment.inspect': async ({ engine, input }) => ({
    ...(await engine.services.environments.inspect(input.environment)),
    microvmKernel: await microvmKernel(engine.services.drivers),
  }),

  'environment.remove': ({ engine, input }) => engine.services.environments.remove(input.environment),

  'environment.prune': async ({ engine, input }) => {
    const { environments, drivers, store } = engine.services
    const { removed } = await environments.prune(input)
    for (const driver of drivers.all) {
      // Drivers of one isolation may share what they start from.
      const inUse = store.workspaces.all().some((row) => drivers.find(row.driver)?.isolation === driver.isolation)
      for (const { name, bytes } of await driver.prune({ ...input, inUse }))
        removed.push({ kind: 'cache', name, bytes })
    }
    return { removed, freedBytes: removed.reduce((sum, { bytes }) => sum + bytes, 0) }
  },
} satisfies Partial<Handlers>

/** Machines of all VMMs start with the same. */
const microvmKernel = async ({ all }: DriverChoice): Promise<KernelVersion | null> => {
  for (const driver of all) {
    try {
      const kernel = await driver.kernel()
      if (kernel !== null) return kernel
    } catch (error) {
      // A package that was given and is of no use: a create says so, and it is no reason to hide the rest.
      if (!isPyroError(error) || error.code !== 'driver.unavailable') throw error
    }
  }
  return null
}
