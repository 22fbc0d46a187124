import { isPyroError, PyroError } from '@pyro/protocol'

/** Says of an archive that was refused what became of the operation: who checks archives does not know what they are for. */
export const sayingOutcome = async <T>(outcome: string, work: () => Promise<T>): Promise<T> => {
  try {
    return await work()
  } catch (error) {
    if (!isPyroError(error) || !error.code.startsWith('archive.')) throw error
    const { code, message, hint, data, cause } = error
    throw new PyroError(code, `${message}; ${outcome}`, { hint: hint ?? undefined, data: data ?? undefined, cause })
  }
}
