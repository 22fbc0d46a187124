import { PyroError } from '@pyro/protocol/client'

/** A command line that cannot be understood: exit code 2. */
export const usageError = (message: string, hint: string): PyroError =>
  new PyroError('input.invalid', message, { hint })
