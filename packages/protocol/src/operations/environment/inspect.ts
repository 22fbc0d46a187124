import { z } from 'zod'
import { environmentDetails } from '../../model/environment.ts'
import { environmentName } from '../../model/names.ts'
import { defineOperation } from '../../operation.ts'

export const environmentInspect = defineOperation({
  id: 'environment.inspect',
  summary: 'Show what an environment holds: packages, variables, user, working folder, kernel of microVMs',
  kind: 'unary',
  mutates: false,
  input: z.strictObject({ environment: environmentName }),
  result: environmentDetails,
  errors: ['environment.not-found'],
  http: { method: 'GET', path: '/v1/environments/inspect' },
  sdk: { method: 'environments.inspect' },
  cli: {
    words: ['env', 'inspect'],
    positionals: [
      { field: 'environment', label: 'ENV', required: true, summary: 'environment', completes: 'environment' },
    ],
    options: [],
    examples: [{ line: 'pyro env inspect debian:12', note: '' }],
  },
  mcp: { tool: 'environment_inspect', profiles: ['full'] },
})
