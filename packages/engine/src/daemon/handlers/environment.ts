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

  'environment.inspect': ({ engine, input }) => engine.services.environments.inspect(input.environment),

  'environment.remove': ({ engine, input }) => engine.services.environments.remove(input.environment),

  'environment.prune': ({ engine, input }) => engine.services.environments.prune(input),
} satisfies Partial<Handlers>
