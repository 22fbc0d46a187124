import { z } from 'zod'
import { environmentSummary } from '../../model/environment.ts'
import { defineOperation } from '../../operation.ts'

export const environmentList = defineOperation({
  id: 'environment.list',
  summary: 'List the environments of the catalog and those installed here',
  kind: 'unary',
  mutates: false,
  input: z.strictObject({}),
  result: z.object({ environments: z.array(environmentSummary) }),
  errors: [],
  http: { method: 'GET', path: '/v1/environments' },
  sdk: { method: 'environments.list' },
  cli: {
    words: ['env', 'list'],
    positionals: [],
    options: [],
    examples: [{ line: 'pyro env list', note: 'what can be used, and what is here already' }],
  },
  mcp: { tool: 'environment_list', profiles: ['full'] },
})
