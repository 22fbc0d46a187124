import type { Pyro } from '@pyro/sdk'

/** Works with an engine that was started with one more variable, and starts the usual one again afterwards. */
export const withSetting = async <T>(
  pyro: Pyro,
  { name, value }: { name: string; value: string },
  work: () => Promise<T>,
): Promise<T> => {
  const before = process.env[name]
  process.env[name] = value
  try {
    await restart(pyro)
    return await work()
  } finally {
    if (before === undefined) delete process.env[name]
    else process.env[name] = before
    await restart(pyro)
  }
}

const restart = async (pyro: Pyro): Promise<void> => {
  await pyro.engine.shutdown()
  await pyro.engine.start()
}
