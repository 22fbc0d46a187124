import type { Seed } from '@pyro/sdk'
import type { ParsedArguments } from '../args/parse.ts'
import { usageError } from '../args/usage-error.ts'

/** `--seed-path` or `--seed-git`, not both. */
export const seedOf = ({ flags }: ParsedArguments): Seed | undefined => {
  const path = flags['seed-path']
  const git = flags['seed-git']
  if (path !== undefined && git !== undefined)
    throw usageError('--seed-path and --seed-git exclude each other', 'choose one')
  if (typeof path === 'string') return { path }
  if (typeof git === 'string') return { git }
  return undefined
}
