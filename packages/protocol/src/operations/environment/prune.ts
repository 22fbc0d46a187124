import { z } from 'zod'
import { pruneResult } from '../../model/environment.ts'
import { defineOperation } from '../../operation.ts'

export const environmentPrune = defineOperation({
  id: 'environment.prune',
  summary: 'Free the space of caches and superseded environments nobody uses',
  description: 'With --all, every environment that no workspace stands on. Says how much space came back.',
  kind: 'unary',
  mutates: true,
  input: z.strictObject({ all: z.boolean().default(false) }),
  result: pruneResult,
  errors: [],
  http: { method: 'POST', path: '/v1/environments/prune' },
  sdk: { method: 'environments.prune' },
  cli: {
    words: ['env', 'prune'],
    positionals: [],
    options: [
      { flag: 'all', field: 'all', type: 'boolean', summary: 'every unused environment too' },
      { flag: 'yes', field: null, type: 'boolean', summary: 'do not ask' },
    ],
    examples: [{ line: 'pyro env prune', note: '' }],
  },
  mcp: { absent: 'environments are shared; their owner prunes them' },
})
