import { z } from 'zod'
import { environmentName } from '../../model/names.ts'
import { defineOperation } from '../../operation.ts'

export const environmentRemove = defineOperation({
  id: 'environment.remove',
  summary: 'Remove an installed environment that no workspace stands on',
  kind: 'unary',
  mutates: true,
  input: z.strictObject({ environment: environmentName }),
  result: z.object({ removed: z.string(), digest: z.string(), freedBytes: z.int().nullable() }),
  errors: ['environment.not-found', 'environment.in-use'],
  http: { method: 'POST', path: '/v1/environments/remove' },
  sdk: { method: 'environments.remove' },
  cli: {
    words: ['env', 'remove'],
    positionals: [
      { field: 'environment', label: 'ENV', required: true, summary: 'environment', completes: 'environment' },
    ],
    options: [],
    examples: [{ line: 'pyro env remove mine:1', note: '' }],
  },
  mcp: { absent: 'environments are shared; their owner removes them' },
})
